import pytest

from gateway.identity.sign_in_steps import FIRST, PENDING_SECONDS, RULES, Step


def test_every_step_leads_to_the_end() -> None:
    assert RULES.keys() == set(Step) - {Step.DONE}
    for step in RULES:
        seen = [step]
        while seen[-1] is not Step.DONE:
            seen.append(RULES[seen[-1]].then)
            assert len(seen) <= len(Step)


@pytest.mark.advisory("CVE-2025-6013", "CVE-2025-64103")
@pytest.mark.requirement("ASVS 6.1.3", "ASVS 6.3.3", "SP 800-63B-4 2.2.1")
def test_from_the_first_step_both_factors_are_asked_for() -> None:
    step, amr = FIRST, []
    while step is not Step.DONE:
        amr.append(RULES[step].adds)
        step = RULES[step].then
    assert amr == ["pwd", "otp"]


def test_a_password_alone_is_not_kept_for_long() -> None:
    assert PENDING_SECONDS <= 300
