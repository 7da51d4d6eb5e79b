"""`snapshot create`, `list`, `verify`, `restore`."""

import os
from typing import Annotated

import typer

from gateway.cli import show
from gateway.cli.options import DEFAULT_CONFIG, AsJson, Config, new_family
from gateway.cli.remote import ask

family = new_family("Encrypted copies of the store.")

Snapshot = Annotated[str, typer.Argument(metavar="SNAPSHOT", help="A name from the list, or a file's path with a /.")]


@family.command()
def create(config: Config = DEFAULT_CONFIG, json: AsJson = False) -> None:
    """Make one now."""
    result = ask(config, "snapshot.create")
    if json:
        show.as_json(result)
    else:
        typer.echo(f"Made: {result['path']} ({result['bytes']} bytes)")


@family.command("list")
def list_(config: Config = DEFAULT_CONFIG, json: AsJson = False) -> None:
    """Those in <state_dir>/snapshots."""
    snapshots = ask(config, "snapshot.list")["snapshots"]
    if json:
        show.as_json(snapshots)
    else:
        show.table(snapshots, ("name", "created", "bytes"), "no snapshots")


@family.command()
def verify(snapshot: Snapshot, config: Config = DEFAULT_CONFIG, json: AsJson = False) -> None:
    """Would it open, whole, with our keys?"""
    result = ask(config, "snapshot.verify", snapshot=_placed(snapshot))
    if json:
        show.as_json(result)
    else:
        typer.echo(f"Good: {result['name']}, of {show.cell('created', result['created'])}")


@family.command()
def restore(snapshot: Snapshot, config: Config = DEFAULT_CONFIG, json: AsJson = False) -> None:
    """Put it in the place of the store; only while the gateway is stopped. All sessions and tokens end."""
    result = ask(config, "snapshot.restore", snapshot=_placed(snapshot))
    if json:
        show.as_json(result)
    else:
        typer.echo(f"Restored: {result['name']}, of {show.cell('created', result['created'])}")
        for each in result["again"]:
            typer.echo(f"Done again, since the journal has it: {each}")
        if result["unreadable"]:
            typer.echo(f"{result['unreadable']} lines of the journal can't be read: what they took away may be back.")


def _placed(snapshot: str) -> str:
    """The keeper has another working directory."""
    return os.path.abspath(snapshot) if "/" in snapshot else snapshot
