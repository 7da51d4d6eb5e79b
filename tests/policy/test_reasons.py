import pytest

from gateway.policy.reasons import DECIDED, PUBLISHED, Reason, Verdict


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_is_published_with_a_sentence(reason: Reason) -> None:
    sentence = PUBLISHED[reason]
    assert sentence[0].isupper()
    assert sentence.endswith(".")


def test_nothing_else_is_published() -> None:
    assert set(PUBLISHED) == set(Reason)


def test_a_reason_belongs_to_one_verdict_at_most() -> None:
    assert set(DECIDED) == set(Verdict)
    said = [reason for reasons in DECIDED.values() for reason in reasons]
    assert len(said) == len(set(said))
