"""`keys list`, `rotate`, `rewrap`."""

from pathlib import Path
from typing import Annotated

import typer

from gateway.cli import show
from gateway.cli.options import DEFAULT_CONFIG, AsJson, Config, new_family
from gateway.cli.remote import ask

family = new_family("Keys: what for, who may read them, what losing them costs. Never the keys themselves.")
COLUMNS = ("purpose", "id", "created", "is_current", "is_retired", "rows", "readers", "does", "rotation", "loss")


@family.command("list")
def list_(config: Config = DEFAULT_CONFIG, json: AsJson = False) -> None:
    """All versions of every key."""
    keys = ask(config, "keys.list")["keys"]
    if json:
        show.as_json(keys)
    else:
        show.table(keys, COLUMNS, "no keys")


@family.command()
def rotate(
    purpose: Annotated[str, typer.Argument(metavar="PURPOSE", help="Like assertion: one of the key table.")],
    config: Config = DEFAULT_CONFIG,
    json: AsJson = False,
) -> None:
    """Make a new version of a key, without a stopped request; what the older ones signed or sealed stays good."""
    result = ask(config, "keys.rotate", purpose=purpose)
    if json:
        show.as_json(result)
    else:
        typer.echo(f"New: {result['purpose']} {result['id']}, in all hands now, used in {result['signs_in']:.0f} s.")
        if result["purpose"] == "seal":
            typer.echo("Then every row of the store is sealed anew: `keys list` shows how many are left (rows).")


@family.command()
def rewrap(
    old: Annotated[Path, typer.Argument(metavar="OLD", help="The file of the master key that there was.")],
    config: Config = DEFAULT_CONFIG,
    json: AsJson = False,
) -> None:
    """Wrap every key with the master key of the settings, in place of the old one. Only while nothing runs."""
    result = ask(config, "keys.rewrap", old=str(old.absolute()))
    if json:
        show.as_json(result)
    else:
        typer.echo(f"{result['versions']} keys are wrapped with the new master key. The old one opens older copies.")
