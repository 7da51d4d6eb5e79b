"""A checkpoint has one spelling, and one signature that fits it."""

import base64
import json
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.audit.chain import Opening, canonical
from gateway.audit.checkpoint import BadCheckpoint, ChainState, Checkpoint, OtherKey, parse, public_text, sign

KEY, NEXT = (Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32) for number in (7, 8))
PUBLIC = [public_text(KEY)]
OPENING = Opening("worker-1-x", "node-a", "worker-1", "2027-01-15T08:00:00.000000Z")
CHECKPOINT = Checkpoint(
    7, "2027-01-15T08:00:00.000000Z", "node-a", "ab" * 32, public_text(KEY), public_text(NEXT),
    {"worker-1-x": ChainState(OPENING, 3, "cd" * 32), "portal-x": ChainState(
        Opening("portal-x", "node-a", "portal", "t"), 9, "ef" * 32, "crashed", "01" * 32)},
)  # fmt: skip
FILE = sign(CHECKPOINT, KEY)


def test_what_is_signed_is_read_back() -> None:
    assert parse(FILE, PUBLIC) == CHECKPOINT
    assert list(CHECKPOINT.open_chains) == ["worker-1-x"]
    assert FILE.endswith(b"\n")
    assert FILE.count(b"\n") == 1


@pytest.mark.parametrize("bit", [0x01, 0x20, 0x80])
def test_no_byte_can_change(bit: int) -> None:
    for position in range(len(FILE)):
        changed = bytearray(FILE)
        changed[position] ^= bit
        with pytest.raises(BadCheckpoint):
            parse(bytes(changed), PUBLIC)


@pytest.mark.parametrize(
    "content",
    [
        b"", b"[" * 100_000, b"\n", b"{}\n", b"[]\n", b"null\n", b'"x"\n', FILE[:-1], FILE + b"\n",
        FILE + FILE, b" " + FILE,
        FILE.replace(b'"seq":3', b'"seq":3,"seq":3'), FILE.replace(b'"number":7', b'"number":7.0'),
    ],
)  # fmt: skip
def test_what_is_no_checkpoint_is_refused(content: bytes) -> None:
    with pytest.raises(BadCheckpoint):
        parse(content, PUBLIC)


@pytest.mark.parametrize(
    "change",
    [
        {"v": 2}, {"number": "7"}, {"chains": []}, {"chains": {"worker-1-x": {}}}, {"extra": 1}, {"time": 3},
        {"chains": {"other": {"opening": OPENING.as_json(), "seq": 0, "hash": "", "ended": None, "torn": ""}}},
        {"chains": {"worker-1-x": {"opening": OPENING.as_json(), "seq": "0", "hash": "", "ended": None, "torn": ""}}},
        {"chains": {"worker-1-x": {"opening": OPENING.as_json(), "seq": 0, "hash": "", "ended": "maybe", "torn": ""}}},
        {"chains": {"worker-1-x": {"opening": {**OPENING.as_json(), "chain": "../x"}, "seq": 0, "hash": "",
                                   "ended": None, "torn": ""}}},
    ],
)  # fmt: skip
def test_even_a_signature_does_not_make_one_of_something_else(change: dict[str, object]) -> None:
    members = json.loads(FILE)
    del members["signature"]
    members |= change
    signature = KEY.sign(b"btb-gateway checkpoint v1\n" + canonical(members))
    with pytest.raises(BadCheckpoint):
        parse(canonical({**members, "signature": base64.b64encode(signature).decode()}) + b"\n", PUBLIC)


def test_a_signature_over_the_same_bytes_for_another_purpose_does_not_fit() -> None:
    members = json.loads(FILE)
    del members["signature"]
    forged = canonical({**members, "signature": base64.b64encode(KEY.sign(canonical(members))).decode()}) + b"\n"
    with pytest.raises(BadCheckpoint, match="does not fit"):
        parse(forged, PUBLIC)


@pytest.mark.parametrize("keys", [[], [public_text(NEXT)]])
def test_a_key_that_is_not_due_proves_nothing(keys: list[str]) -> None:
    with pytest.raises(OtherKey, match="not with the one that is due"):
        parse(FILE, keys)


@pytest.mark.parametrize("key", ["", "AAAA", "not base64", "é"])
def test_what_is_no_key_signs_nothing(key: str) -> None:
    file = sign(replace(CHECKPOINT, key=key), KEY)
    with pytest.raises(BadCheckpoint, match="does not fit"):
        parse(file, [key])


def test_the_key_of_the_next_one_is_the_one_introduced_or_the_same() -> None:
    assert CHECKPOINT.key_of_next == public_text(NEXT)
    assert replace(CHECKPOINT, next_key="").key_of_next == public_text(KEY)
