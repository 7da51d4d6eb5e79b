"""`keys list`, `rotate`."""

from typing import Annotated

import typer

from gateway.cli import show
from gateway.cli.options import DEFAULT_CONFIG, AsJson, Config, new_family
from gateway.cli.remote import ask

family = new_family("Keys: what for, who may read them, what losing them costs. Never the keys themselves.")


@family.command("list")
def list_(config: Config = DEFAULT_CONFIG, json: AsJson = False) -> None:
    """All live versions of every key."""
    keys = ask(config, "keys.list")["keys"]
    if json:
        show.as_json(keys)
    else:
        show.table(keys, ("purpose", "id", "created", "is_current", "readers", "does", "loss"), "no keys")


@family.command()
def rotate(
    purpose: Annotated[str, typer.Argument(metavar="PURPOSE", help="Like assertion.")],
    config: Config = DEFAULT_CONFIG,
    json: AsJson = False,
) -> None:
    """Make a new version of a key, without a stopped request; the older ones stay good for what they signed."""
    result = ask(config, "keys.rotate", purpose=purpose)
    if json:
        show.as_json(result)
    else:
        typer.echo(f"New: {result['purpose']} {result['id']}, published now, signs in {result['signs_in']:.0f} s.")
