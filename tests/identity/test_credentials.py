import pytest

from gateway.foundation.entropy import SystemEntropy
from gateway.foundation.keyring import Key, KeySet
from gateway.identity.credentials import (
    ENROLMENT,
    PENDING,
    SERVICE,
    hand_over_label,
    hash_text,
    mint,
    mint_service,
    service_token_hash,
    session_label,
    token_hash,
)

ENTROPY = SystemEntropy()
OURS, NEWER, STRANGERS = (Key("session", id_, 0.0, ENTROPY.bytes(32)) for id_ in ("ours", "newer", "strangers"))
KEYS = KeySet((OURS,))
LABEL = session_label("orders.example")
TOKEN = mint(KEYS, LABEL, ENTROPY).text


@pytest.mark.requirement("ASVS 7.2.2", "ASVS 11.5.1", "SP 800-63B-4 5.1")
def test_is_opaque_and_has_one_spelling() -> None:
    token = mint(KEYS, LABEL, ENTROPY)
    assert len(token.text) == 64
    assert token.text != mint(KEYS, LABEL, ENTROPY).text
    assert token_hash(KEYS, LABEL, token.text) == token.hashed == hash_text(token.text)


@pytest.mark.parametrize(
    "label", [session_label("billing.example"), hand_over_label("orders.example"), PENDING, ENROLMENT, SERVICE, ""]
)
@pytest.mark.advisory("CVE-2026-71326")
@pytest.mark.requirement("ASVS 9.2.2")
def test_is_worth_nothing_for_another_use_or_host(label: str) -> None:
    assert token_hash(KEYS, label, TOKEN) is None


@pytest.mark.advisory("CVE-2026-35030")
@pytest.mark.requirement("ASVS 11.5.1")
def test_every_single_character_counts() -> None:
    for place, character in enumerate(TOKEN):
        altered = TOKEN[:place] + ("A" if character != "A" else "B") + TOKEN[place + 1 :]
        assert token_hash(KEYS, LABEL, altered) is None


HOSTILE = [
    "",
    " ",
    "A" * 64,
    TOKEN[:-1],
    TOKEN + "A",
    TOKEN + "=",
    TOKEN + "\n",
    " " + TOKEN,
    TOKEN[:32] + "\n" + TOKEN[32:],
    *(TOKEN[:63] + character for character in "+/=é\x00٣"),
]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
@pytest.mark.requirement("ASVS 7.2.2")
def test_hostile_texts_are_forged(text: str) -> None:
    assert token_hash(KEYS, LABEL, text) is None
    assert service_token_hash(KEYS, text) is None
    assert service_token_hash(KEYS, "gwt_" + text) is None


def test_keys_of_somebody_else_mint_nothing_for_us() -> None:
    assert token_hash(KEYS, LABEL, mint(KeySet((STRANGERS,)), LABEL, ENTROPY).text) is None


def test_rotation_keeps_what_was_minted_before() -> None:
    both = KeySet((NEWER, OURS))
    new = mint(both, LABEL, ENTROPY)
    assert token_hash(both, LABEL, TOKEN) == hash_text(TOKEN)
    assert token_hash(both, LABEL, new.text) == new.hashed
    assert token_hash(KEYS, LABEL, new.text) is None


def test_service_tokens_are_told_by_their_beginning() -> None:
    token = mint_service(KEYS, ENTROPY)
    assert token.text.startswith("gwt_")
    assert service_token_hash(KEYS, token.text) == token.hashed
    for other in (token.text.removeprefix("gwt_"), token.text.upper(), "gwt_" + token.text, "gwt_" + TOKEN):
        assert service_token_hash(KEYS, other) is None
