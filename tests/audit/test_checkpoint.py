"""A checkpoint has one spelling, and one signature that fits it."""

import base64
import json

import pytest

from gateway.audit.chain import Opening, canonical
from gateway.audit.checkpoint import BadCheckpoint, ChainState, Checkpoint, parse, sign

from .state import KEYS

KEY = KEYS.current.ed25519_private_key()
PUBLIC = {"k1": KEY.public_key()}
OPENING = Opening("worker-1-x", "node-a", "worker-1", "2027-01-15T08:00:00.000000Z")
CHECKPOINT = Checkpoint(
    7, "2027-01-15T08:00:00.000000Z", "node-a", "ab" * 32, "k1",
    {"worker-1-x": ChainState(OPENING, 3, "cd" * 32), "portal-x": ChainState(
        Opening("portal-x", "node-a", "portal", "t"), 9, "ef" * 32, "closed")},
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
        {"chains": {"other": {"opening": OPENING.as_json(), "seq": 0, "hash": "", "ended": None}}},
        {"chains": {"worker-1-x": {"opening": OPENING.as_json(), "seq": "0", "hash": "", "ended": None}}},
        {"chains": {"worker-1-x": {"opening": OPENING.as_json(), "seq": 0, "hash": "", "ended": "maybe"}}},
        {"chains": {"worker-1-x": {"opening": {**OPENING.as_json(), "chain": "../x"}, "seq": 0, "hash": "",
                                   "ended": None}}},
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


def test_a_key_that_was_not_given_proves_nothing() -> None:
    with pytest.raises(BadCheckpoint, match="not among those given"):
        parse(FILE, {})
