"""`tenant add`, `list`, `close`."""

from typing import Annotated

import typer

from gateway.cli import show
from gateway.cli.options import DEFAULT_CONFIG, AsJson, Config, Name, new_family
from gateway.cli.remote import ask

family = new_family("Customers.")


@family.command()
def add(
    names: Annotated[list[str], typer.Argument(metavar="NAME...")],
    config: Config = DEFAULT_CONFIG,
    json: AsJson = False,
) -> None:
    """Declare tenants. A name is never used again."""
    result = ask(config, "tenant.add", names=names)
    if json:
        show.as_json(result)
    else:
        typer.echo(f"Added: {', '.join(result['added'])}")


@family.command("list")
def list_(config: Config = DEFAULT_CONFIG, json: AsJson = False) -> None:
    """All tenants, closed ones too."""
    tenants = ask(config, "tenant.list")["tenants"]
    if json:
        show.as_json(tenants)
    else:
        show.table(tenants, ("name", "created", "closed"), "no tenants")


@family.command()
def close(name: Name, config: Config = DEFAULT_CONFIG, json: AsJson = False) -> None:
    """End a tenant: every grant there counts no more."""
    result = ask(config, "tenant.close", name=name)
    if json:
        show.as_json(result)
    else:
        typer.echo(f"Closed: {result['name']}; sessions ended: {result['sessions_ended']}")
