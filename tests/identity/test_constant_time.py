"""Whether a secret is right is said by `hmac.compare_digest` alone, which takes the same time wherever they differ.

With another word of its, the verdict is another: so no comparison of ours comes before it, or in its place.
"""

import hmac

import pyotp
import pytest

from gateway.foundation.entropy import SystemEntropy
from gateway.foundation.keyring import Key, KeySet
from gateway.foundation.secret import Secret
from gateway.identity.credentials import (
    ENROLMENT,
    PENDING,
    hand_over_label,
    link_hash,
    mint,
    mint_link,
    mint_service,
    service_token_hash,
    session_label,
    token_hash,
)
from gateway.identity.otp import current_step, matching_step, secret_text

KEYS = KeySet((Key("session", "k1", 0.0, b"k" * 32),))
STRANGERS = KeySet((Key("session", "k1", 0.0, b"x" * 32),))
ENTROPY = SystemEntropy()
NOW = 1_800_000_000.0
LABELS = (PENDING, ENROLMENT, session_label("orders.example"), hand_over_label("orders.example"))


def verdicts(keys: KeySet) -> list[bool]:
    """Of everything that strangers may guess at, made with `keys` and looked at with ours."""
    found = [token_hash(KEYS, label, mint(keys, label, ENTROPY).text) is not None for label in LABELS]
    found.append(service_token_hash(KEYS, mint_service(keys, ENTROPY).text) is not None)
    found.append(link_hash(KEYS, mint_link(keys, ENTROPY).text) is not None)
    found.append(Secret("one") == Secret("one" if keys is KEYS else "two"))
    return found


@pytest.mark.advisory("CVE-2024-52307")
@pytest.mark.parametrize(("keys", "is_right"), [(KEYS, True), (STRANGERS, False)])
@pytest.mark.requirement("ASVS 11.2.4")
def test_the_verdict_is_that_of_the_constant_time_comparison(
    monkeypatch: pytest.MonkeyPatch, keys: KeySet, is_right: bool
) -> None:
    assert set(verdicts(keys)) == {is_right}
    monkeypatch.setattr(hmac, "compare_digest", lambda *_: not is_right)
    assert set(verdicts(keys)) == {not is_right}


@pytest.mark.advisory("CVE-2024-52307")
@pytest.mark.requirement("ASVS 11.2.4")
def test_a_code_is_compared_so_with_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """The right one takes as many comparisons as a wrong one: nobody learns which step fits, or how far."""
    secret, compared = b"s" * 20, []
    code = pyotp.TOTP(secret_text(secret)).generate_otp(current_step(NOW))
    real = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", lambda *a: compared.append(a) or real(*a))
    assert matching_step(secret, code, NOW) == current_step(NOW)
    right = len(compared)
    compared.clear()
    matching_step(secret, "000000" if code != "000000" else "111111", NOW)
    assert (right, len(compared)) == (3, 3)
