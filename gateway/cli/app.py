"""The tree of verbs, and what becomes of an error."""

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from gateway import __version__
from gateway.cli import audit, check, keys, policy, serve, session, snapshot, status, store, tenant, token, user
from gateway.cli.options import new_family
from gateway.foundation.errors import GatewayError

app = new_family("Zero-trust authenticating reverse proxy.")
app.command("run")(serve.run)
app.command("demo")(serve.demo)
app.command("check")(check.check)
app.command("status")(status.status)
app.command("reload")(status.reload)
app.command("restart")(status.restart)
for name, family in (
    ("tenant", tenant.family),
    ("user", user.family),
    ("token", token.family),
    ("session", session.family),
    ("policy", policy.family),
    ("audit", audit.family),
    ("snapshot", snapshot.family),
    ("store", store.family),
    ("keys", keys.family),
):
    app.add_typer(family, name=name)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"btb-gateway {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version.")
    ] = False,
) -> None:
    """Options before the verb; each acts in its callback."""


def run(arguments: Sequence[str]) -> int:
    """The exit status. An error that we can name goes to standard error in its own words; any other is a bug and keeps
    its traceback."""
    try:
        app(list(arguments), prog_name="btb-gateway")
    except GatewayError as error:
        print(error, file=sys.stderr)
        return 1
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    return 0
