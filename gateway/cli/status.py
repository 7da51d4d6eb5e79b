"""`status` and `reload`."""

import typer

from gateway.cli import show
from gateway.cli.options import DEFAULT_CONFIG, AsJson, Config
from gateway.cli.remote import ask


def status(config: Config = DEFAULT_CONFIG, json: AsJson = False) -> None:
    """What is running. Exit status 1 if nothing is."""
    result = ask(config, "status")
    if json:
        show.as_json(result)
        return
    show.members(result, ("node", "version", "config", "since"))
    show.table(result["processes"], ("process", "pid", "state", "since", "user", "confined"), "no processes")
    if len({each["user"] for each in result["processes"]}) == 1:
        typer.echo("All processes run as one user: a fault in one is a fault in all. The setting users parts them.")
    if not all(each["confined"] for each in result["processes"] if each["state"] == "ready"):
        typer.echo("This kernel can't confine processes (Landlock): workers could write each other's journals.")


def reload(config: Config = DEFAULT_CONFIG, json: AsJson = False) -> None:
    """Take new settings and a new policy, all processes or none. What is refused leaves the old ones in force."""
    result = ask(config, "reload")
    if json:
        show.as_json(result)
    else:
        typer.echo(f"In force: {result['config']}")
