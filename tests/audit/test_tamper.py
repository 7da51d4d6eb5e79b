"""The short form of `make tamper`; and that it would notice."""

import re

import pytest

from gateway.audit.report import Report

from . import changes, tamper

ROUNDS = 3
SEED = 1


@pytest.mark.timeout(300)
@pytest.mark.requirement("promise 7")
def test_verify_misses_nothing_but_what_the_documentation_says() -> None:
    counts, missed = tamper.run(range(ROUNDS * len(changes.CHANGES)), SEED)
    assert missed == []
    assert {kind.partition(":")[0] for kind in counts} == {change.__name__ for change in changes.CHANGES}
    needed = {kind.partition(":")[0] for kind in counts if kind.endswith("needs a witness")}
    assert needed >= changes.NEEDS_WITNESS - {"newest_cut_off"}


@pytest.mark.timeout(300)
def test_a_change_that_is_missed_is_told_with_what_repeats_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes.Closed, "verify", lambda *_, **__: Report())
    _, missed = tamper.run(range(len(changes.CHANGES)), SEED)
    assert len(missed) > len(changes.CHANGES) / 2
    assert all(re.search(rf"--seed {SEED} --only \d+$", each) for each in missed)


def test_what_needs_a_witness_may_be_missed_without_one_only() -> None:
    seen = tamper.Outcome("set_back", is_change=True, alone=False, witnessed=True)
    assert not seen.is_missed(is_cut=False)
    assert tamper.Outcome("set_back", is_change=True, alone=False, witnessed=False).is_missed(is_cut=False)
    assert tamper.Outcome("one_byte", is_change=True, alone=False, witnessed=True).is_missed(is_cut=False)
