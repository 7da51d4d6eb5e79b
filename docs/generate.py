"""The reference pages under `docs/`, written from the code: `make docs`. A test fails while one of them is out of date.

Law: nothing is said here that the code does not say; whoever wants a better sentence writes it there.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, get_args, get_origin

import typer
from pydantic.fields import FieldInfo
from typer.core import TyperArgument, TyperCommand, TyperGroup

from docs.assurance import tables
from gateway.cli.app import app
from gateway.config.schema import Section, Settings
from gateway.config.values import parse_size
from gateway.foundation.durations import format_duration, parse_duration
from gateway.foundation.keyring import PURPOSES, Purpose
from gateway.metrics import DEFINITIONS
from gateway.policy.reasons import DECIDED, PUBLISHED, Reason
from gateway.proxy.refusals import STATUS
from tests.system.fault_table import FAULTS, PROMISES

FOLDER = Path(__file__).parent
SIZES = (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10))
Row = tuple[str, ...]


def pages() -> Mapping[str, str]:
    """What each page should say, by file name."""
    return MappingProxyType(
        {
            "settings.md": _page("Settings", SETTINGS, _settings()),
            "commands.md": _page("Commands", COMMANDS, _commands()),
            "keys.md": _page("Keys", KEYS, _keys()),
            "metrics.md": _page("Metrics", METRICS, _metrics()),
            "reasons.md": _page("Reasons", REASONS, _reasons()),
            "advisories.md": _page("Advisories", ADVISORIES, _assurance("advisory")),
            "requirements.md": _page("Requirements", REQUIREMENTS, _assurance("requirement")),
            "faults.md": _page("What happens when…", FAULT_TABLE, _faults()),
        }
    )


SETTINGS = """\
Everything that `gateway.yaml` can say. [`config/gateway.yaml`](../config/gateway.yaml) is a commented example, and
[For operators](operators.md) tells which changes need a restart. Lengths of time are written `90s`, `15m`, `1h`, `30d`;
sizes `64KiB`, `10MiB`, `1GiB`; relative paths count from the folder of the file."""

COMMANDS = """\
Every verb of `btb-gateway`; `btb-gateway VERB --help` says the same. Each but `demo` takes `--config FILE` as well, and
each that prints data `--json`. [For operators](operators.md#commands) tells where they run and what their exit status
means."""

KEYS = """\
Each key rests under `<state_dir>/keys`, wrapped by the master key (AES-256-GCM, bound to the key's purpose, its id and
the time of its making), which is never there. A process is handed the keys of its rows over a pipe, and no others.
`btb-gateway keys list` shows the versions that exist, `btb-gateway keys rotate` makes a new one, which every process
has before it is used; the newest in use signs and encrypts, and all that are kept verify and decrypt. What was dropped
is gone from the disk: the supervisor does that, when nothing can rest on it any more. The master key is changed with
`btb-gateway keys rewrap` ([For operators](operators.md#keys))."""

METRICS = """\
What `/metrics` on `listen.ops` tells. Labels are bounded: never a user, a path or a client's address."""

REASONS = """\
Why a request was allowed, challenged or refused: the word in records, in metrics and in the answer. The list is closed.
[For policy authors](policy.md) shows where the reasons of the policy come from."""


ADVISORIES = """\
How software of this kind has been broken, as published since 2019, and the tests that would fail if this gateway could
be broken in the same way. Each row is one mechanism in our own words, beside the advisories that it was read in.
Whoever mends a fault that others had too adds the row; the test that is marked with an id stands here by itself."""

REQUIREMENTS = """\
What others demand of an authenticating gateway, and the tests that show it: the requirements of
[OWASP ASVS 5.0.0](https://github.com/OWASP/ASVS/tree/v5.0.0) that concern one (with their level),
[NIST SP 800-63B-4](https://pages.nist.gov/800-63-4/sp800-63b.html) for AAL2 with a password and a one-time code, and
the tenets of [NIST SP 800-207](https://csrc.nist.gov/pubs/sp/800/207/final). Each is paraphrased: the wording that
counts is theirs."""
FAULT_TABLE = """\
What each fault does to each promise, as the tests have it: every cell is one of them (`tests/system/test_faults.py`),
on a whole gateway with the fault really caused, but for those that begin with *n/a* and say why. `make faults` lets
each happen twenty times, when chance has it. What else can fail: [For operators](operators.md#when-something-fails)."""


def _page(title: str, introduction: str, blocks: Iterator[str]) -> str:
    note = "<!-- Written by `make docs` from the code: change it there. -->"
    return "\n\n".join([note, f"# {title}", introduction, *blocks]) + "\n"


def _table(head: Row, rows: Iterator[Row]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


# Faults.


def _faults() -> Iterator[str]:
    yield _table(("promise", ""), (row for row in PROMISES.items()))
    yield _table(
        ("fault", *PROMISES),
        ((fault.what, *(_aside(fault.cells[promise]) for promise in PROMISES)) for fault in FAULTS),
    )


def _aside(cell: str) -> str:
    return cell.replace("n/a", "*n/a*", 1)


# Settings.


def _settings() -> Iterator[str]:
    yield _table(("setting", "default", ""), _options(Settings, ""))


def _options(section: type[Section], prefix: str) -> Iterator[Row]:
    for given, field in section.model_fields.items():
        name, inner = field.alias or given, _section_of(field.annotation)
        yield _code(prefix + name), _code(_default(field)), _meaning(field, inner)
        if inner is not None:
            marker = "[]" if get_origin(field.annotation) is tuple else ""
            yield from _options(inner, f"{prefix}{name}{marker}.")


def _section_of(annotation: Any) -> type[Section] | None:
    """The section behind an annotation like `Section`, or `tuple[Section, ...]`."""
    for each in (annotation, *get_args(annotation)):
        if isinstance(each, type) and issubclass(each, Section):
            return each
    return None


def _default(field: FieldInfo) -> str:
    if field.is_required() or isinstance(field.default, Section) or field.default in (None, ()):
        return ""
    return _spelled(field, field.default)


def _spelled(field: FieldInfo, value: object) -> str:
    """As the file would have it."""
    parsers = {getattr(each, "func", None) for each in field.metadata}
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int) and parse_duration in parsers:
        return format_duration(value)
    if isinstance(value, int) and parse_size in parsers:
        return next(f"{value // size}{unit}" for unit, size in SIZES if value % size == 0)
    return f"./{value}" if isinstance(value, Path) else str(value)


def _meaning(field: FieldInfo, section: type[Section] | None) -> str:
    text = field.description or (section.__doc__ if section else "") or ""
    choices = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
    if choices:
        only = "One of" if len(choices) > 1 else "Only"
        text = f"{text} {only} {', '.join(map(_code, choices))}.".strip()
    if field.is_required():
        text = f"**Must be given.** {text}"
    return text.replace("<", "&lt;").replace("\n", " ")


# Commands.


def _commands() -> Iterator[str]:
    group = typer.main.get_command(app)
    yield _table(("command", ""), _verbs(group, "btb-gateway"))


def _verbs(command: object, words: str) -> Iterator[Row]:
    if isinstance(command, TyperGroup):
        for name, inner in command.commands.items():
            yield from _verbs(inner, f"{words} {name}")
    elif isinstance(command, TyperCommand):
        yield _code(" ".join([words, *_parameters(command)])), (command.help or "").strip().replace("<", "&lt;")


def _parameters(command: TyperCommand) -> Iterator[str]:
    """Without `--config` and `--json`, which the page around the table tells of."""
    for each in command.params:
        if isinstance(each, TyperArgument):
            yield each.metavar or str(each.name).upper()
        elif each.name not in ("config", "json", "help"):
            value = "" if getattr(each, "is_flag", False) else f" {each.metavar or str(each.name).upper()}"
            yield f"[{each.opts[0]}{value}]{'…' if each.multiple else ''}"


# The tables that the code has as tables.


def _keys() -> Iterator[str]:
    rows = (
        (row.name, row.does, ", ".join(sorted(row.readers)), _sentence(_rotation(row)), _sentence(row.loss))
        for row in PURPOSES
    )
    yield _table(("key", "what it does", "who may read it", "when it is rotated", "if it is stolen"), rows)


def _rotation(row: Purpose) -> str:
    return f"used after {row.settles:.0f} s; {row.rotation}"


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _metrics() -> Iterator[str]:
    rows = ((_code(d.name), d.kind, ", ".join(map(_code, d.labels)), d.help) for d in DEFINITIONS)
    yield _table(("metric", "kind", "labels", ""), rows)


def _reasons() -> Iterator[str]:
    yield _table(
        ("reason", "decision", "answer", "meaning"), ((_code(r), _verdict(r), _status(r), PUBLISHED[r]) for r in Reason)
    )


def _verdict(reason: Reason) -> str:
    return next(
        (verdict.value for verdict, reasons in DECIDED.items() if reason in reasons), "refused before the policy"
    )


def _status(reason: Reason) -> str:
    return str(STATUS[reason][0]) if reason in STATUS else "the application's"


# What the tests hold: the rows are in the two files beside this one.


def _assurance(kind: str) -> Iterator[str]:
    for text, head, rows in tables(kind):
        yield "\n\n".join(filter(None, (text, _table(head, iter(rows)))))


if __name__ == "__main__":
    for file_name, content in pages().items():
        (FOLDER / file_name).write_text(content, encoding="utf-8")
