"""Options that several verbs take, and the ways in which their values are wrong calls (exit status 2)."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from gateway.foundation.durations import parse_duration
from gateway.foundation.principal import Grant

Value = TypeVar("Value")

DEFAULT_CONFIG = Path("config/gateway.yaml")


def new_family(purpose: str) -> typer.Typer:
    """Without rich's frames and tracebacks: help is plain text, and an error is one of ours or a bug."""
    return typer.Typer(
        help=purpose,
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )


def read_as(parse: Callable[[str], Value]) -> Callable[[str], Value]:
    """A parser whose ValueError is the message of a wrong call."""

    def read(text: str) -> Value:
        try:
            return parse(text)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None

    return read


def _grant(text: str) -> str:
    return str(Grant.parse(text))


def _grants(texts: list[str] | None) -> list[str]:
    return [read_as(_grant)(text) for text in texts or []]


Config = Annotated[
    Path,
    typer.Option("--config", envvar="BTB_GATEWAY_CONFIG", metavar="FILE", help="The settings file."),
]
Name = Annotated[str, typer.Argument(metavar="NAME", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Grants = Annotated[
    list[str] | None,
    typer.Option(
        "--grant", metavar="ROLE@TENANT", callback=_grants, help="A role at a tenant, at * (every one) or at -."
    ),
]
GrantArguments = Annotated[
    list[str], typer.Argument(metavar="ROLE@TENANT...", callback=_grants, help="At a tenant, at * or at -.")
]
Duration = Annotated[int, typer.Option(parser=read_as(parse_duration), metavar="DURATION")]
