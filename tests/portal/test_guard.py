"""The proof of a form: what it is bound to, and what does not pass."""

import hmac

import pytest

from gateway.foundation.entropy import CountingEntropy
from gateway.foundation.keyring import Key, KeySet
from gateway.portal.guard import Guard, is_proven, prove

OLD = Key("hand-over", "old", 0.0, b"o" * 32)
NEW = Key("hand-over", "new", 1.0, CountingEntropy().bytes(32))
KEYS = KeySet((NEW, OLD))
COOKIE = "c" * 64


def test_a_proof_holds_for_what_it_was_made_for() -> None:
    assert is_proven(KEYS, Guard.SIGN_IN, prove(KEYS, Guard.SIGN_IN, COOKIE), COOKIE)


def test_a_proof_outlives_the_rotation_of_its_key() -> None:
    assert is_proven(KEYS, Guard.SIGN_IN, prove(KeySet((OLD,)), Guard.SIGN_IN, COOKIE), COOKIE)


def test_without_anything_to_bind_it_to_there_is_no_proof() -> None:
    assert prove(KEYS, Guard.SESSION, "", "orders.btb.localhost") == ""


GENUINE = prove(KEYS, Guard.SESSION, "ses_1", "orders.btb.localhost")


@pytest.mark.parametrize(
    ("guard", "sent", "bound_to"),
    [
        (Guard.SESSION, GENUINE, ("ses_2", "orders.btb.localhost")),
        (Guard.SESSION, GENUINE, ("ses_1", "billing.btb.localhost")),
        (Guard.SESSION, GENUINE, ("ses_1orders.btb.localhost",)),
        (Guard.SESSION, GENUINE, ("", "orders.btb.localhost")),
        (Guard.SIGN_IN, GENUINE, ("ses_1", "orders.btb.localhost")),
        (Guard.SESSION, "", ("ses_1", "orders.btb.localhost")),
        (Guard.SESSION, GENUINE[:-1], ("ses_1", "orders.btb.localhost")),
        (Guard.SESSION, GENUINE + "A", ("ses_1", "orders.btb.localhost")),
        (Guard.SESSION, GENUINE.swapcase(), ("ses_1", "orders.btb.localhost")),
        (Guard.SESSION, "пароль", ("ses_1", "orders.btb.localhost")),
        (
            Guard.SESSION,
            prove(KeySet((Key("hand-over", "x", 0.0, b"x" * 32),)), Guard.SESSION, "ses_1", "o"),
            ("ses_1", "o"),
        ),
    ],
)
@pytest.mark.advisory("CVE-2026-71326")
def test_what_does_not_pass(guard: Guard, sent: str, bound_to: tuple[str, ...]) -> None:
    assert not is_proven(KEYS, guard, sent, *bound_to)


@pytest.mark.advisory("CVE-2024-52307")
@pytest.mark.parametrize("verdict", [True, False])
@pytest.mark.requirement("ASVS 11.2.4")
def test_the_verdict_is_that_of_the_constant_time_comparison(monkeypatch: pytest.MonkeyPatch, verdict: bool) -> None:
    bound_to = ("ses_1", "orders.btb.localhost")
    assert not is_proven(KEYS, Guard.SESSION, "guess", *bound_to)
    monkeypatch.setattr(hmac, "compare_digest", lambda *_: verdict)
    assert {is_proven(KEYS, Guard.SESSION, sent, *bound_to) for sent in (GENUINE, "guess")} == {verdict}
