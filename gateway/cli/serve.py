"""`run` and `demo`."""

from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.options import DEFAULT_CONFIG, Config


def run(config: Config = DEFAULT_CONFIG) -> None:
    """Serve until SIGTERM or SIGINT."""
    from gateway.supervisor.master import main

    raise typer.Exit(main(config))


def demo(
    folder: Annotated[Path, typer.Option(help="Everything that the demo writes is under it.")] = Path("var/demo"),
    port: Annotated[int, typer.Option(min=1, max=65535, help="Of the gateway, on loopback.")] = 8443,
) -> None:
    """Serve two sample applications with an own CA; prints addresses and a link for the first administrator."""
    from gateway.demo.run import run as run_demo

    raise typer.Exit(run_demo(folder, port))
