"""`status`, `reload` and `restart`."""

import time
from pathlib import Path
from typing import Any

import typer

from gateway.cli import show
from gateway.cli.options import DEFAULT_CONFIG, AsJson, Config
from gateway.cli.remote import NothingAnswers, ask
from gateway.foundation.errors import GatewayError

RESTARTED_SECONDS = 60.0


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


def restart(config: Config = DEFAULT_CONFIG, json: AsJson = False) -> None:
    """Replace every process by one of the version that is installed now, without losing a request. Returns when the new
    ones serve; what can't take over is refused, and the old ones go on."""
    before = ask(config, "status")
    ask(config, "restart")
    result = _wait_for_successors(config, before["since"])
    if json:
        show.as_json(result)
    else:
        typer.echo(f"Restarted: version {result['version']}, in force: {result['config']}")


def _wait_for_successors(config: Path, since: float) -> dict[str, Any]:
    deadline = time.monotonic() + RESTARTED_SECONDS
    while time.monotonic() < deadline:
        try:
            result = ask(config, "status")
        except NothingAnswers:
            raise
        except GatewayError:
            # The keeper is being replaced, which takes questions.
            result = None
        if result is not None and result["ready"] and result["since"] > since + 0.001:
            return result
        time.sleep(0.2)
    raise GatewayError("the new processes are not all ready yet: the old ones serve where they are not; see `status`")
