"""`store check`, `reseal`."""

import typer

from gateway.cli import show
from gateway.cli.options import DEFAULT_CONFIG, AsJson, Config, new_family
from gateway.cli.remote import ask

family = new_family("Whether the store holds what the gateway has written, and nothing else.")


@family.command()
def check(config: Config = DEFAULT_CONFIG, json: AsJson = False) -> None:
    """What somebody else has written to it: refused already. Exit status 1 if there is anything."""
    result = ask(config, "store.check")
    if json:
        show.as_json(result)
    else:
        for name in result["broken"]:
            typer.echo(f"Not as we wrote it: {name}")
        typer.echo(result["problem"] or ("Good." if not result["broken"] else "Everything else is good."))
    if result["problem"] or result["broken"]:
        raise typer.Exit(1)


@family.command()
def reseal(config: Config = DEFAULT_CONFIG, json: AsJson = False) -> None:
    """Take the store as it is, after a review; only while the gateway is stopped."""
    result = ask(config, "store.reseal")
    if json:
        show.as_json(result)
    else:
        typer.echo(f"Sealed: {result['count']} people, sessions, tokens, tenants and sets of factors.")
