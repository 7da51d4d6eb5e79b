"""`token create`, `list`, `revoke`."""

from typing import Annotated

import typer

from gateway.cli import show
from gateway.cli.options import DEFAULT_CONFIG, AsJson, Config, Grants, Name, new_family, read_as
from gateway.cli.remote import ask
from gateway.foundation.durations import parse_duration

family = new_family("Tokens of service accounts.")


@family.command()
def create(
    name: Name,
    applications: Annotated[
        list[str] | None, typer.Option("--application", metavar="NAME", help="Good for it only; may be repeated.")
    ] = None,
    grants: Grants = None,
    expires: Annotated[int, typer.Option(parser=read_as(parse_duration), metavar="DURATION")] = "30d",  # type: ignore[assignment]  # typer parses defaults too.
    config: Config = DEFAULT_CONFIG,
    json: AsJson = False,
) -> None:
    """Make a token. The last word printed is it, and it is shown this once only."""
    result = ask(
        config, "token.create", name=name, applications=applications or [], grants=grants or [], expires_seconds=expires
    )
    if json:
        show.as_json(result)
        return
    typer.echo(f"Service account {show.printable(result['name'])} ({result['account']}), token {result['id']}")
    typer.echo(f"until {show.cell('expires', result['expires'])}. Send it as Authorization: Bearer …")
    typer.echo(result["token"])


@family.command("list")
def list_(config: Config = DEFAULT_CONFIG, json: AsJson = False) -> None:
    """All tokens, without their secrets."""
    tokens = ask(config, "token.list")["tokens"]
    if json:
        show.as_json(tokens)
    else:
        show.table(tokens, ("id", "name", "account", "applications", "grants", "expires", "revoked"), "no tokens")


@family.command()
def revoke(
    token: Annotated[str, typer.Argument(metavar="TOKEN", help="Id of a token, or name of the account for all.")],
    config: Config = DEFAULT_CONFIG,
    json: AsJson = False,
) -> None:
    """End a token at once."""
    result = ask(config, "token.revoke", token=token)
    if json:
        show.as_json(result)
    else:
        typer.echo(f"Revoked: {', '.join(result['revoked'])}")
