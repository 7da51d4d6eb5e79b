"""What is asked for is found, in order of time, over all chains; and nothing unreadable is hidden."""

from pathlib import Path

import pytest

from gateway.audit import search as searching
from gateway.audit.events import EventName, event
from gateway.audit.search import Filter, search

from .state import Gateway


def ids(state_dir: Path, wanted: Filter, **options: bool) -> list[object]:
    return [record.get("request_id") for record in search(state_dir, wanted, **options)]


@pytest.fixture
def state(gateway: Gateway) -> Path:
    """Two chains, turn by turn; requests 1 to 6, an event, and a third chain much later."""
    journals = [gateway.journal("worker-1"), gateway.journal("worker-2")]
    changes: list[dict[str, object]] = [
        {}, {"tenant": "other", "decision": "deny", "reason": "tenant"}, {"path": "/t/acme/Söme"},
        {"reason": "public"}, {"host": "invoices.btb.localhost"}, {},
    ]  # fmt: skip
    for number, change in enumerate(changes):
        journal = journals[number % 2]
        journal.commit_now(gateway.records.decision(**change))
        if number != 3:
            journal.commit_now(gateway.records.outcome())
    gateway.clock.advance(1)
    journals[0].commit_now(event(EventName.SIGN_OUT, gateway.clock.now(), user="usr_1", name="alice"))
    gateway.clock.advance(3600)
    later = gateway.journal("worker-3")
    later.commit_now(event(EventName.SIGN_IN_SUCCESS, gateway.clock.now(), user="usr_2", name="bob"))
    return gateway.state_dir


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (Filter(kind="decision"), [1, 2, 3, 4, 5, 6]),
        (Filter(kind="outcome"), [1, 2, 3, 5, 6]),
        (Filter(tenant="other"), [2]),
        (Filter(decision="deny"), [2]),
        (Filter(decision="deny", tenant="acme"), []),
        (Filter(reason="public"), [4]),
        (Filter(application="orders", kind="decision"), [1, 2, 3, 4, 5, 6]),
        (Filter(application="order"), []),
        (Filter(request_id="req-5"), [5, 5]),
        (Filter(text="INVOICES"), [5]),
        (Filter(text="Söme"), [3]),
        (Filter(text='":"'), []),
        (Filter(text="Node-A"), [1, 1, 2, 2, 3, 3, 4, 5, 5, 6, 6, None, None]),
        (Filter(user="alice", kind="decision"), [1, 2, 3, 4, 5, 6]),
        (Filter(user="usr_1", kind="event"), [None]),
        (Filter(user="ALICE"), []),
        (Filter(kind="sign-in:success"), [None]),
        (Filter(since=1_800_000_000.0035, until=1_800_000_000.0055, kind="decision"), [4, 5]),
        (Filter(until=1_800_000_000.0), []),
        (Filter(since=1_800_003_600.0), [None]),
    ],
)
def test_a_filter_finds_what_fits(state: Path, wanted: Filter, found: list[int | None]) -> None:
    assert ids(state, wanted) == [None if each is None else f"req-{each}" for each in found]


def test_the_newest_is_last(state: Path) -> None:
    times = [record["time"] for record in search(state, Filter())]
    assert times == sorted(times)  # type: ignore[type-var]  # Text.
    assert len(times) == 13


def test_an_outcome_comes_with_its_decision(state: Path) -> None:
    records = list(search(state, Filter(), with_outcomes=True))
    decisions = [record for record in records if record["kind"] == "decision"]
    assert [record["kind"] for record in records] == ["decision"] * 6 + ["event"] * 2
    assert [record["request_id"] for record in decisions] == [f"req-{number}" for number in range(1, 7)]
    assert decisions[0]["outcome"] == {
        "time": decisions[0]["time"], "status": 200, "bytes_in": 0, "bytes_out": 512, "duration_ms": 3.25,
    }  # fmt: skip
    assert decisions[3]["outcome"] is None
    assert ids(state, Filter(decision="deny"), with_outcomes=True) == ["req-2"]


def test_outcomes_that_never_come_cost_bounded_memory(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(searching, "HELD", 3)
    journal = gateway.journal()
    for _ in range(10):
        journal.commit_now(gateway.records.decision())
    stream = search(gateway.state_dir, Filter(), with_outcomes=True)
    assert [record["request_id"] for record in stream] == [f"req-{number}" for number in range(1, 11)]


def test_many_chains_cost_few_open_files(gateway: Gateway) -> None:
    for _ in range(30):
        gateway.clock.advance(10)
        journal = gateway.journal()
        journal.commit_now(gateway.records.decision())
        journal.close_now()
    stream = search(gateway.state_dir, Filter(kind="decision"))
    next(stream)
    journal_dir = gateway.state_dir / "journal"
    opened = [path for path in Path("/proc/self/fd").iterdir() if journal_dir in path.resolve().parents]
    assert len(opened) <= 2
    assert len(list(stream)) == 29


@pytest.mark.parametrize("line", [b"\n", b"garbage\n", b'{"v":2,"seq":1}\n', b'{"v":1,"seq":1\n'])
def test_a_line_that_is_no_record_is_shown_whatever_was_asked(gateway: Gateway, line: bytes) -> None:
    journal = gateway.journal()
    journal.commit_now(gateway.records.decision())
    segment = journal._writer.folder / "00000001.jsonl"
    segment.write_bytes(segment.read_bytes().rstrip(b"\0") + line)
    for joined in (False, True):
        found = list(search(gateway.state_dir, Filter(tenant="nobody"), with_outcomes=joined))
        assert [(record["kind"], record["place"]) for record in found] == [("unreadable", "00000001.jsonl:2")]


def test_a_journal_that_is_not_there_holds_nothing(tmp_path: Path) -> None:
    assert list(search(tmp_path, Filter())) == []


@pytest.mark.parametrize("what", ["a zero byte", "a segment that is gone"])
def test_what_hides_the_rest_of_a_chain_is_found(gateway: Gateway, what: str) -> None:
    journal = gateway.journal("worker-1")
    for _ in range(3):
        journal.commit_now(gateway.records.decision())
    journal.close_now()
    [segment] = sorted(gateway.state_dir.glob("journal/*/00000001.jsonl"))
    if what == "a zero byte":
        lines = segment.read_bytes().splitlines(keepends=True)
        segment.write_bytes(lines[0] + b"\0" + lines[1][1:] + b"".join(lines[2:]))
    else:
        segment.rename(segment.with_name("00000002.jsonl"))
    found = list(search(gateway.state_dir, Filter(request_id="another")))
    assert [record["kind"] for record in found] == ["unreadable"]
    assert found[0]["chain"] == segment.parent.name
