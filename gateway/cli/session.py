"""`session list`, `revoke`."""

from typing import Annotated

import typer

from gateway.cli import show
from gateway.cli.options import DEFAULT_CONFIG, AsJson, Config, new_family
from gateway.cli.remote import ask

family = new_family("Sign-ins that are live.")


@family.command("list")
def list_(
    user: Annotated[str | None, typer.Option(metavar="NAME")] = None,
    config: Config = DEFAULT_CONFIG,
    json: AsJson = False,
) -> None:
    """Live sessions, of everybody or of one person."""
    sessions = ask(config, "session.list", user=user)["sessions"]
    if json:
        show.as_json(sessions)
    else:
        show.table(sessions, ("id", "user", "client", "amr", "created", "last_used", "until"), "no sessions")


@family.command()
def revoke(
    user: Annotated[str | None, typer.Option(metavar="NAME", help="All of a person.")] = None,
    session: Annotated[str | None, typer.Option(metavar="ID", help="One.")] = None,
    tenant: Annotated[str | None, typer.Option(metavar="TENANT", help="All of the people whose home it is.")] = None,
    everybody: Annotated[bool, typer.Option("--all", help="All there are.")] = False,
    config: Config = DEFAULT_CONFIG,
    json: AsJson = False,
) -> None:
    """End sessions, everywhere and within a second. Takes one of --user, --session, --tenant and --all."""
    choices: dict[str, object] = {"user": user, "session": session, "tenant": tenant, "all": everybody or None}
    chosen = {name: value for name, value in choices.items() if value is not None}
    if len(chosen) != 1:
        raise typer.BadParameter("give one of --user NAME, --session ID, --tenant TENANT and --all")
    result = ask(config, "session.revoke", **chosen)
    if json:
        show.as_json(result)
    else:
        typer.echo(f"Sessions ended: {result['sessions_ended']}")
