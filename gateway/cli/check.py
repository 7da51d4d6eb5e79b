"""`check`: would these files be taken?"""

import typer

from gateway.cli import show
from gateway.cli.options import DEFAULT_CONFIG, AsJson, Config
from gateway.foundation.errors import InvalidFile


def check(config: Config = DEFAULT_CONFIG, json: AsJson = False) -> None:
    """Validate settings, policy and certificates, and run the policy's tests: what start and reload do, and nothing
    else."""
    from gateway.foundation.clock import SystemClock
    from gateway.supervisor.build import read_configuration
    from gateway.supervisor.certificates import read_certificates, remarks
    from gateway.supervisor.users import describe

    try:
        configuration = read_configuration(config)
        certificates = read_certificates(configuration.settings)
    except InvalidFile as error:
        if json:
            show.as_json([problem.as_json() for problem in error.problems])
        else:
            typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
    if json:
        show.as_json([])
    else:
        typer.echo(f"Settings and policy are good, and the policy's tests pass (version {configuration.digest}).")
        typer.echo(describe(configuration.settings))
        for is_warning, remark in remarks(configuration.settings, certificates, SystemClock().now()):
            typer.echo(f"{'Warning: ' if is_warning else ''}{remark}.")
