"""`audit search`, `verify`: from the journal's files alone, whether or not the gateway runs."""

import json as jsons
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli import show
from gateway.cli.options import DEFAULT_CONFIG, AsJson, Config, new_family, read_as
from gateway.foundation.durations import parse_duration
from gateway.foundation.errors import GatewayError

if TYPE_CHECKING:
    from gateway.audit.known import Known

family = new_family("The record of what happened.")

KEYS_BESIDE = (
    "the first public key lies beside the journal: whether somebody wrote both anew can't be known",
    "--first-key takes a copy of it that was kept elsewhere",
)


def _instant(text: str) -> float:
    """A length of time before now, or a time."""
    from gateway.foundation.clock import SystemClock
    from gateway.policy.values import parse_instant

    try:
        return SystemClock().now() - parse_duration(text)
    except ValueError:
        return parse_instant(text)


Instant = Annotated[float | None, typer.Option(parser=read_as(_instant), metavar="7d|TIME")]
Word = Annotated[str | None, typer.Option()]


@family.command()
def search(
    user: Annotated[str | None, typer.Option(help="Id or name.")] = None,
    tenant: Word = None,
    application: Word = None,
    decision: Annotated[str | None, typer.Option(help="allow, challenge or deny.")] = None,
    reason: Word = None,
    kind: Annotated[str | None, typer.Option(help="decision, event, or an event's name.")] = None,
    request: Annotated[str | None, typer.Option(metavar="ID")] = None,
    text: Annotated[str | None, typer.Option(help="Anywhere in the record.")] = None,
    since: Instant = None,
    until: Instant = None,
    config: Config = DEFAULT_CONFIG,
    json: AsJson = False,
) -> None:
    """Records that fit all of the options, oldest first; with --json one object a line."""
    from gateway.audit.search import Filter
    from gateway.audit.search import search as records_of

    wanted = Filter(user, tenant, application, kind, since, until, request, reason, decision, text)
    with _readable(state_dir := _state_dir(config)):
        for record in records_of(state_dir, wanted, with_outcomes=True):
            typer.echo(jsons.dumps(record, ensure_ascii=False) if json else _line(record))


@family.command()
def verify(
    at_least: Annotated[
        str | None,
        typer.Option(
            metavar="CHECKPOINT",
            help="NUMBER, NUMBER:HASH or a checkpoint's file, known to exist: catches an older state, or another.",
        ),
    ] = None,
    witness: Annotated[
        list[Path] | None,
        typer.Option(metavar="PATH", help="All that a witness keeps, a folder or a file of lines; may be repeated."),
    ] = None,
    first_key: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The first public key; only a copy kept elsewhere finds a forged whole."),
    ] = None,
    config: Config = DEFAULT_CONFIG,
    json: AsJson = False,
) -> None:
    """Has the record been changed? Exit status 1 if it has."""
    from gateway.audit.known import read_witness
    from gateway.audit.signing import FIRST_KEY, FOLDER
    from gateway.audit.verify import load_first_key
    from gateway.audit.verify import verify as report_on

    known = (_known(at_least), *(read_witness(path) for path in witness or ()))
    with _readable(state_dir := _state_dir(config)):
        beside = state_dir / FOLDER / FIRST_KEY
        report = report_on(state_dir, load_first_key(first_key or beside), known)
        is_beside = first_key is None or (beside.exists() and first_key.samefile(beside))
    if json:
        show.as_json({**report.as_json(), "first_key_beside_journal": is_beside})
    else:
        for line in (*report.lines(), *(KEYS_BESIDE if is_beside else ())):
            typer.echo(show.printable(line))
    raise typer.Exit(0 if report.ok else 1)


def _known(text: str | None) -> Iterable["Known"]:
    """What `--at-least` says; a wrong call raises BadParameter."""
    from gateway.audit.known import Known, read_witness

    if text is None:
        return ()
    try:
        return (Known.parse(text),)
    except GatewayError as error:
        if Path(text).is_file():
            return read_witness(Path(text))
        raise typer.BadParameter(str(error)) from None


def _state_dir(config: Path) -> Path:
    from gateway.config.load import load_settings

    return load_settings(config).settings.state_dir


@contextmanager
def _readable(state_dir: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise GatewayError(
            f"the journal under {state_dir}, or what it is held against, can't be read: {error}"
        ) from error


def _line(record: dict[str, Any]) -> str:
    """One line for people: when, what, who, where, and how it ended."""
    outcome = record.get("outcome") or {}
    host, path = record.get("host") or "", record.get("path") or ""
    parts = (
        record.get("time"),
        record.get("event") or record.get("decision") or record.get("kind"),
        record.get("reason"),
        record.get("name") or record.get("user"),
        record.get("tenant"),
        record.get("method"),
        f"{host}{path}",
        outcome.get("status"),
        record.get("request_id"),
    )
    return show.printable(" ".join(str(part) for part in parts if part not in (None, "")))
