"""`user add`, `list`, `show`, `disable`, `enable`, `remove`, `grant`, `ungrant`, `reset`, `unlock`."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.cli import show as showing
from gateway.cli.options import DEFAULT_CONFIG, AsJson, Config, GrantArguments, Grants, Name, new_family
from gateway.cli.remote import ask

family = new_family("People.")


@family.command()
def add(
    name: Name,
    home: Annotated[str, typer.Option(metavar="TENANT", help="Home tenant; - for BTB's own people.")] = "-",
    grants: Grants = None,
    credentials_stdin: Annotated[
        bool, typer.Option("--credentials-stdin", help="Read a password and, on a second line, a TOTP secret.")
    ] = False,
    config: Config = DEFAULT_CONFIG,
    json: AsJson = False,
) -> None:
    """Add a person; prints a one-time enrolment link, which is good for an hour."""
    credentials = _credentials() if credentials_stdin else None
    _print(ask(config, "user.add", name=name, home=home, grants=grants or [], credentials=credentials), "Added", json)


@family.command("list")
def list_(
    tenant: Annotated[str | None, typer.Option(help="Only those whose home it is.")] = None,
    config: Config = DEFAULT_CONFIG,
    json: AsJson = False,
) -> None:
    """All people."""
    users = ask(config, "user.list", tenant=tenant)["users"]
    if json:
        showing.as_json(users)
    else:
        showing.table(users, ("name", "id", "home", "state", "grants"), "no people")


@family.command()
def show(name: Name, config: Config = DEFAULT_CONFIG, json: AsJson = False) -> None:
    """One person, with grants and factors."""
    result = ask(config, "user.show", name=name)
    if json:
        showing.as_json(result)
        return
    showing.members(result, ("name", "id", "display", "home", "state", "created", "grants", "sessions"))
    showing.table(result["factors"], ("kind", "id", "state"), "no factors")


@family.command()
def disable(name: Name, config: Config = DEFAULT_CONFIG, json: AsJson = False) -> None:
    """Lock a person out at once; sessions end."""
    _print(ask(config, "user.disable", name=name), "Disabled", json)


@family.command()
def enable(name: Name, config: Config = DEFAULT_CONFIG, json: AsJson = False) -> None:
    """Let a disabled person sign in again."""
    _print(ask(config, "user.enable", name=name), "Enabled", json)


@family.command()
def remove(name: Name, config: Config = DEFAULT_CONFIG, json: AsJson = False) -> None:
    """Remove a person for good. The id is never used again."""
    _print(ask(config, "user.remove", name=name), "Removed", json)


@family.command()
def grant(name: Name, grants: GrantArguments, config: Config = DEFAULT_CONFIG, json: AsJson = False) -> None:
    """Give a person roles at tenants."""
    _change_grants(config, "user.grant", name, grants, json)


@family.command()
def ungrant(name: Name, grants: GrantArguments, config: Config = DEFAULT_CONFIG, json: AsJson = False) -> None:
    """Take roles from a person."""
    _change_grants(config, "user.ungrant", name, grants, json)


@family.command()
def reset(name: Name, config: Config = DEFAULT_CONFIG, json: AsJson = False) -> None:
    """Void a person's factors and sessions, and print a new enrolment link."""
    _print(ask(config, "user.reset", name=name), "Reset", json)


@family.command()
def unlock(name: Name, config: Config = DEFAULT_CONFIG, json: AsJson = False) -> None:
    """Make a password good again that was disabled by guesses; sessions go on."""
    _print(ask(config, "user.unlock", name=name), "Unlocked", json)


def _credentials() -> dict[str, str]:
    """Two lines of standard input. A password may begin or end with a space."""
    password, secret = (sys.stdin.readline().rstrip("\r\n") for _ in range(2))
    if not password or not secret.strip():
        raise typer.BadParameter("standard input needs a password, and on a second line a base32 TOTP secret")
    return {"password": password, "totp_secret": secret.strip()}


def _change_grants(config: Path, verb: str, name: Name, grants: list[str], json: bool) -> None:
    result = ask(config, verb, name=name, grants=grants)
    if json:
        showing.as_json(result)
    else:
        typer.echo(f"{showing.printable(result['name'])} holds: {', '.join(result['grants']) or 'nothing'}")


def _print(result: dict[str, Any], done: str, json: bool) -> None:
    if json:
        showing.as_json(result)
        return
    ended = f"; sessions ended: {result['sessions_ended']}" if "sessions_ended" in result else ""
    typer.echo(f"{done}: {showing.printable(result['name'])} ({result['id']}){ended}")
    if result.get("link"):
        typer.echo(f"One-time link, good for an hour:\n{result['link']}")
