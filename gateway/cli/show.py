"""Answers on standard output: JSON for programs, tables and sentences for people."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import typer

_TIMES = frozenset({"created", "last_used", "until", "expires", "revoked", "closed", "since", "time"})

_PIPE_WIDTH = 10_000


def as_json(value: object) -> None:
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


def printable(value: object) -> str:
    """On one line and without control characters: names and user agents come from strangers, and a terminal obeys
    escape sequences."""
    return "".join(each if each.isprintable() else f"\\x{ord(each):02x}" for each in str(value))


def cell(name: str, value: object) -> str:
    from gateway.foundation.clock import isoformat

    match value:
        case None | "" | []:
            return "-"
        case True | False:
            return "yes" if value else "no"
        case int() | float() if name in _TIMES:
            return isoformat(value)[:16].replace("T", " ") + "Z"
        case list():
            return printable(", ".join(map(str, value)))
        case _:
            return printable(value)


def table(rows: Iterable[Mapping[str, Any]], columns: Sequence[str], nothing: str) -> None:
    """One line for each row; `nothing` where there is none. A pipe gets whole cells, whatever their width."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    view = Table(*(name.replace("_", " ") for name in columns), box=None, header_style="bold", pad_edge=False)
    for column in view.columns:
        column.overflow = "fold"
    for row in rows:
        view.add_row(*(Text(cell(name, row.get(name))) for name in columns))
    if not view.rows:
        typer.echo(nothing)
        return
    is_terminal = sys.stdout.isatty()
    Console(width=None if is_terminal else _PIPE_WIDTH).print(view)


def members(value: Mapping[str, Any], names: Sequence[str]) -> None:
    """One line for each member."""
    width = max(map(len, names))
    for name in names:
        typer.echo(f"{name.replace('_', ' '):<{width}}  {cell(name, value.get(name))}")
