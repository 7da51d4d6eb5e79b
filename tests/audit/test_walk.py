"""Decisions and outcomes are paired in bounded memory."""

from gateway.audit.walk import _Outcomes


def line(kind: str, number: int) -> bytes:
    return b'{"kind":"%b","request_id":"r%d"}\n' % (kind.encode(), number)


def test_outcomes_are_paired_with_decisions() -> None:
    outcomes = _Outcomes()
    for number in range(3):
        assert outcomes.take(line("decision", number)) is None
    assert outcomes.take(line("outcome", 1)) is None
    assert (outcomes.unknown, outcomes.without_decision) == (2, 0)
    outcomes.take(line("outcome", 1))
    assert outcomes.without_decision == 1


def test_decisions_without_outcome_cost_bounded_memory() -> None:
    outcomes = _Outcomes()
    count = outcomes._HELD + 10
    for number in range(count):
        outcomes.take(line("decision", number))
    assert len(outcomes._open) == outcomes._HELD
    assert outcomes.unknown == count
    outcomes.take(line("outcome", 0))
    assert (outcomes.unknown, outcomes.without_decision) == (count - 1, 0)
