"""What must hold, each promise a question to what was observed. Raises AssertionError, with what was seen instead."""

import re
from collections.abc import Callable, Mapping, Sequence
from statistics import median

from gateway.audit.verify import load_first_key, verify
from gateway.foundation.clock import isoformat

from .fault_observing import HEALED_SECONDS, SLACK_SECONDS, Observation, Seen, Who
from .running import ROOT, Gateway

REVOKED_SECONDS = 1.0
SLOWER_SECONDS = 0.003
COMMITS_WAITED = 2
OWN_COST = 5
"""How much longer than on a quiet disk a request may take, its commits apart."""
Rounds = Sequence[Observation]
CALM: tuple[Who, ...] = ("anybody", "signed-in")
ALERTS = (ROOT / "deploy" / "prometheus" / "alerts.yml").read_text()


def recorded(gateway: Gateway, rounds: Rounds) -> None:
    allowed = {
        (record["request_id"], record["path"])
        for record in gateway.records(
            "--kind", "decision", "--decision", "allow", "--text", f"/{rounds[0].fault.name}-"
        )
    }
    for seen in rounds:
        arrived = [(each.request_id, each.target) for each in gateway.upstream.mentions(f"/{seen.mark}/")]
        assert arrived, "nothing arrived, so nothing was tested"
        assert [each for each in arrived if each not in allowed] == []
        refused = {each.target for each in seen.seen if each.status in (401, 503)}
        assert [target for _, target in arrived if target in refused] == []


def answered(seen: Observation) -> None:
    fault = seen.fault
    may: Mapping[str, frozenset[int]] = {
        "anybody": fault.anybody,
        "signed-in": fault.signed_in,
        # What runs when authority ends is cut.
        "revoked": fault.signed_in | {0, 401},
    }
    # A busy machine may keep a worker from confirming its copy in time: 503 is always lawful, and never the rule here.
    none(seen, lambda each: each.status not in may[each.who] | {503}, "an answer that may not be")
    for who in CALM:
        if may[who] == {200}:
            got = [each.status for each in seen.seen if each.who == who]
            assert got.count(200) * 2 > len(got), f"{who}: {got.count(200)} of {len(got)} were served"
    late = fault.answer_seconds + SLACK_SECONDS
    none(seen, lambda each: each.took > late, f"an answer after {late:g} s")
    none(seen, lambda each: each.status == 503 and not re.fullmatch("[1-9][0-9]*", each.retry_after), "no Retry-After")
    assert {each.status for each in seen.seen} >= fault.felt, "the fault was not felt"
    if fault.shut_seconds is not None:
        passed = got_through(seen, seen.began + fault.shut_seconds, seen.ended)
        assert not passed, f"{len(passed)} got through, {passed[-1].began - seen.began:.3f} s after it began"


def none(seen: Observation, is_wrong: Callable[[Seen], bool], what: str) -> None:
    wrong = [each for each in seen.seen if is_wrong(each)]
    told = [f"{each.began - seen.began:+.3f} s: {each}" for each in wrong[:3]]
    assert not wrong, f"{seen.mark}, which lasted {seen.ended - seen.began:.1f} s: {len(wrong)} times {what}: {told}"


def got_through(seen: Observation, since: float, until: float, *who: str) -> list[Seen]:
    """Requests that began and were allowed in this time."""
    return [
        each
        for each in seen.seen
        if since <= each.began and each.began + each.took <= until and each.status == 200
        if not who or each.who in who
    ]


def heals(seen: Observation) -> None:
    assert seen.supervisors[0] == seen.supervisors[1], "it was started by hand"
    assert seen.healed - seen.ended < HEALED_SECONDS


def verified(gateway: Gateway, rounds: Rounds) -> None:
    report = verify(gateway.state, load_first_key(gateway.state / "checkpoints" / "first-key.json"))
    assert report.ok, report
    told = {(record["chain"], record["line"]) for record in gateway.records("--kind", "journal:torn-line")}
    assert [torn for torn in report.torn if (torn.chain, torn.line) not in told] == []


def revoked(seen: Observation) -> None:
    if seen.fault.blind_seconds is not None:
        passed = got_through(seen, seen.began + seen.fault.blind_seconds, seen.ended, "signed-in", "revoked")
        assert not passed, f"{len(passed)} got through, {passed[-1].began - seen.began:.3f} s after it began"
    if seen.fault.revokes:
        assert seen.revoked is not None
        passed = got_through(seen, seen.revoked + REVOKED_SECONDS, float("inf"), "revoked")
        assert not passed, f"{len(passed)} got through, {passed[-1].began - seen.revoked:.3f} s after it was revoked"
        assert any(each.who == "revoked" and each.status == 401 for each in seen.seen), "it never took effect"


def visible(gateway: Gateway, rounds: Rounds) -> None:
    fault = rounds[0].fault
    times = [record["time"] for record in gateway.records("--kind", fault.event)] if fault.event else []
    for seen in rounds:
        assert fault.log in seen.log, f"{seen.mark} lacks {fault.log!r}:\n{seen.log[-3000:]}"
        assert not fault.event or any(time >= isoformat(seen.wall) for time in times), fault.event
        before, after = seen.metrics
        assert not fault.series or after[fault.series] > before.get(fault.series, 0.0), fault.series
    for alert in re.findall(r"`(Gateway\w+)`", fault.cells["visible"]):
        assert f"- alert: {alert}\n" in ALERTS
        metric = fault.series.partition("{")[0].removesuffix("_count")
        assert metric in ALERTS.partition(f"- alert: {alert}\n")[2].partition("- alert:")[0]


def paced(seen: Observation) -> None:
    quiet, slow = latencies(seen, *seen.quiet), latencies(seen, seen.began, seen.ended)
    commit = commit_seconds(seen)
    print(
        f"{seen.mark}: a commit {commit * 1000:.1f} ms; a request took {slow / commit:.1f} commits; "
        f"on the quiet disk {quiet / slow:.2f} of that"
    )
    # Each of them waited for one at least. (The average of commits has some in it from before and after.)
    assert slow > SLOWER_SECONDS, "the disk was not slow"
    assert slow <= COMMITS_WAITED * commit + OWN_COST * quiet


def latencies(seen: Observation, since: float, until: float) -> float:
    return median(each.took for each in got_through(seen, since, until, "anybody"))


def commit_seconds(seen: Observation) -> float:
    """On the average, from before it was slow until it had healed."""
    before, after = seen.metrics
    total, number = (
        after[f"gateway_audit_commit_seconds_{part}"] - before[f"gateway_audit_commit_seconds_{part}"]
        for part in ("sum", "count")
    )
    return total / number


def each_time(check: Callable[[Observation], None]) -> Callable[[Gateway, Rounds], None]:
    def of_all(_: Gateway, rounds: Rounds) -> None:
        for seen in rounds:
            check(seen)

    return of_all


CHECKS: Mapping[str, Callable[[Gateway, Rounds], None]] = {
    "recorded": recorded,
    "answered": each_time(answered),
    "heals": each_time(heals),
    "verified": verified,
    "revoked": each_time(revoked),
    "visible": visible,
    "paced": each_time(paced),
}
