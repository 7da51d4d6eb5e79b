"""A journal that was changed behind the gateway's back: `audit verify` says that it was, and where."""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .running import Gateway, Ran, running
from .upstream import Upstream

pytestmark = pytest.mark.system
REQUESTS = 12


@pytest.fixture(scope="module")
def stopped(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway that has served and ended, with all of its journal signed."""
    with running(Gateway(tmp_path_factory.mktemp("audit"), upstream, workers=1)) as gateway:
        with gateway.line("orders.btb.localhost") as line:
            for number in range(REQUESTS):
                line.ask("GET", f"/open/audit-{number}", [("Host", "orders.btb.localhost")])
        assert gateway.stop() == 0
        yield gateway


@pytest.fixture
def copy(stopped: Gateway, tmp_path: Path) -> Gateway:
    """The same settings over a copy of the state, which may be spoilt."""
    copied = Gateway(tmp_path / "copy", stopped.upstream, workers=1, ports=stopped.ports)
    shutil.copytree(stopped.state, copied.state, ignore=shutil.ignore_patterns("*.sock"))
    return copied


def worker_file(gateway: Gateway) -> Path:
    (folder,) = (gateway.state / "journal").glob("worker-0-*")
    return folder / "00000001.jsonl"


def lines_of(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True)


def line_of(path: Path, text: bytes) -> int:
    """Number of the line that holds it, from 1 as editors count."""
    (number,) = (number for number, line in enumerate(lines_of(path), 1) if text in line)
    return number


def test_a_journal_that_nobody_touched(stopped: Gateway) -> None:
    verified = stopped.command("audit", "verify", "--json")
    assert verified.code == 0, verified.out
    report = verified.json
    assert report["ok"] is True
    assert (report["breaks"], report["unsigned"], report["torn"]) == ([], {}, [])
    assert report["records"] >= 2 * REQUESTS
    assert report["unknown_outcomes"] == 0
    assert "no break" in stopped.command("audit", "verify").out


FIELDS = (
    "v time seq prev node chain kind request_id config user tenant session credential amr otp_age grants application "
    "route upstream method host path decision reason client"
)


@pytest.mark.requirement("ASVS 16.1.1", "ASVS 16.2.1")
def test_a_record_has_every_field(stopped: Gateway) -> None:
    lines = [json.loads(line) for line in lines_of(worker_file(stopped))]
    decisions = {each["request_id"]: each for each in lines if each["kind"] == "decision"}
    outcomes = {each["request_id"]: each for each in lines if each["kind"] == "outcome"}
    assert decisions.keys() == outcomes.keys()
    assert len(decisions) == REQUESTS
    for decision in decisions.values():
        assert set(FIELDS.split()) <= decision.keys()
    for outcome in outcomes.values():
        assert {"status", "bytes_in", "bytes_out", "duration_ms"} <= outcome.keys()
        assert (outcome["status"], outcome["bytes_in"]) == (200, 0)
    assert [each["seq"] for each in lines] == list(range(1, len(lines) + 1))


def flip_a_byte(path: Path) -> int:
    number = line_of(path, b"/open/audit-5")
    path.write_bytes(path.read_bytes().replace(b"/open/audit-5", b"/open/audit-4"))
    return number


def remove_a_line(path: Path) -> int:
    number = line_of(path, b"/open/audit-5")
    lines = lines_of(path)
    path.write_bytes(b"".join(lines[: number - 1] + lines[number:]))
    return number


def swap_two_lines(path: Path) -> int:
    number = line_of(path, b"/open/audit-5")
    lines = lines_of(path)
    lines[number - 1], lines[number] = lines[number], lines[number - 1]
    path.write_bytes(b"".join(lines))
    return number


def remove_the_last_line(path: Path) -> int:
    lines = lines_of(path)
    path.write_bytes(b"".join(lines[:-1]))
    return len(lines)


def double_a_line(path: Path) -> int:
    number = line_of(path, b"/open/audit-5")
    lines = lines_of(path)
    path.write_bytes(b"".join([*lines[:number], lines[number - 1], *lines[number:]]))
    return number + 1


def empty_it(path: Path) -> int:
    path.write_bytes(b"")
    return 1


CHANGES = (flip_a_byte, remove_a_line, swap_two_lines, remove_the_last_line, double_a_line, empty_it)


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_change_is_found(copy: Gateway, change: Callable[[Path], int]) -> None:
    path = worker_file(copy)
    number = change(path)
    first = broken(copy)
    assert re.search(rf"{re.escape(f'{path.parent.name}/{path.name}')}:(\d+)", first), first
    # A change of a line shows in its hash, which the next line holds; the end of what is left is before what is gone.
    seen = int(re.findall(r":(\d+)", first)[0])
    assert abs(seen - number) <= 1, first


def broken(gateway: Gateway) -> str:
    """Where `verify` says that the first break is."""
    verified = gateway.command("audit", "verify")
    assert verified.code == 1, verified
    first = verified.out.splitlines()[0]
    assert first.startswith("BROKEN: "), verified.out
    as_json = gateway.command("audit", "verify", "--json")
    assert (as_json.code, as_json.json["ok"]) == (1, False)
    assert as_json.json["breaks"][0]["place"] in first
    return first


def test_a_chain_that_is_gone(copy: Gateway) -> None:
    folder = worker_file(copy).parent
    shutil.rmtree(folder)
    assert folder.name in broken(copy)


def test_a_chain_that_nobody_signed(copy: Gateway) -> None:
    folder = worker_file(copy).parent
    invented = folder.with_name(folder.name[:-4] + "0000")
    shutil.copytree(folder, invented)
    assert invented.name in broken(copy)


def checkpoints(gateway: Gateway) -> list[Path]:
    return sorted((gateway.state / "checkpoints").glob("0*.json"))


def test_a_checkpoint_that_is_gone(copy: Gateway) -> None:
    missing = checkpoints(copy)[-2]
    missing.unlink()
    assert missing.stem.lstrip("0") in broken(copy)


def test_a_checkpoint_that_was_changed(copy: Gateway) -> None:
    changed = checkpoints(copy)[-1]
    changed.write_text(changed.read_text().replace("node-under-test", "node-in-disguise"))
    assert changed.name in broken(copy)


def test_a_state_that_was_rolled_back_as_a_whole(copy: Gateway) -> None:
    newest = checkpoints(copy)[-1]
    number = int(newest.stem)
    known = ["--at-least", str(number)]
    assert verify(copy, *known).code == 0
    newest.unlink()
    assert verify(copy).code == 0
    assert verify(copy, *known).code == 1


def verify(gateway: Gateway, *options: str) -> Ran:
    return gateway.command("audit", "verify", *options)


def test_search_finds_what_it_is_asked_for(stopped: Gateway) -> None:
    found = stopped.records("--application", "orders", "--decision", "allow", "--text", "/open/audit-7")
    assert [(each["path"], each["reason"], each["outcome"]["status"]) for each in found] == [
        ("/open/audit-7", "public", 200)
    ]
    assert stopped.records("--since", "1h", "--user", "nobody-of-this-name") == []
