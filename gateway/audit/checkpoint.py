"""A checkpoint: the keeper's signature over the heads of all chains. Pure: bytes in, values out, and back.

Law: checkpoints are numbered from 1 without a gap; each holds the SHA-256 of the file before it. A chain's first
appearance is its opening, at number 0, before its first record. The head of every open chain is in every checkpoint; a
chain that ended is in one last checkpoint that says how. Each names the public key that signs it; one that introduces a
next key is the last of its own, and all that follow are signed with the next. The file is the canonical JSON of
everything, signature included, and a newline: one spelling, so that no byte of it can change unnoticed.
"""

import base64
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Literal

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateway.audit.chain import Head, Opening, canonical, first_hash

_CONTEXT = b"btb-gateway checkpoint v1\n"
"""Keeps a signature of ours from being one over anything else."""

Ending = Literal["closed", "crashed"]


class BadCheckpoint(ValueError):
    """Not a checkpoint, or not one that its key signed."""


class OtherKey(BadCheckpoint):
    """A checkpoint that names another key than those that may sign it."""

    def __init__(self, key: str) -> None:
        super().__init__(f"is signed with the key {key}, and not with the one that is due")
        self.key = key


@dataclass(frozen=True, slots=True)
class ChainState:
    """One chain in a checkpoint."""

    opening: Opening
    seq: int
    hash: str
    ended: Ending | None = None
    torn: str = ""
    """SHA-256 of what a crash left behind the last record; empty where there is nothing."""

    @classmethod
    def begin(cls, opening: Opening) -> "ChainState":
        return cls(opening, 0, first_hash(opening))

    @property
    def head(self) -> Head:
        return Head(self.opening.chain, self.seq, self.hash)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    number: int
    time: str
    node: str
    prev: str
    """Hash of the checkpoint before; empty for the first."""
    key: str
    """The public key that signs this one: base64 of its 32 bytes, which is its only name."""
    next_key: str
    """The public key that signs from the next one on, introduced here; empty while the key stays the same."""
    chains: Mapping[str, ChainState]

    @property
    def key_of_next(self) -> str:
        return self.next_key or self.key

    @property
    def open_chains(self) -> dict[str, ChainState]:
        return {name: state for name, state in self.chains.items() if state.ended is None}


def sign(checkpoint: Checkpoint, key: Ed25519PrivateKey) -> bytes:
    """The file of a checkpoint."""
    members = _members(checkpoint)
    signature = key.sign(_CONTEXT + canonical(members))
    return canonical({**members, "signature": base64.b64encode(signature).decode()}) + b"\n"


def file_hash(content: bytes) -> str:
    return sha256(content).hexdigest()


def public_text(key: Ed25519PrivateKey) -> str:
    return base64.b64encode(key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)).decode()


def parse(content: bytes, keys: Collection[str]) -> Checkpoint:
    """The checkpoint in a file, signed with one of `keys`. Raises OtherKey, BadCheckpoint."""
    try:
        members = json.loads(content)
        signature = base64.b64decode(members.pop("signature"), validate=True)
        checkpoint = _checkpoint(members)
        spelled = canonical({**members, "signature": base64.b64encode(signature).decode()}) + b"\n"
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BadCheckpoint(f"is not a checkpoint: {error}") from error
    if spelled != content or _members(checkpoint) != members:
        raise BadCheckpoint("is not spelled like a checkpoint")
    if checkpoint.key not in keys:
        raise OtherKey(checkpoint.key)
    try:
        public_key(checkpoint.key).verify(signature, _CONTEXT + canonical(members))
    except (InvalidSignature, ValueError) as error:
        raise BadCheckpoint("has a signature that does not fit") from error
    return checkpoint


def public_key(text: str) -> Ed25519PublicKey:
    """Raises ValueError."""
    return Ed25519PublicKey.from_public_bytes(base64.b64decode(text, validate=True))


def _members(checkpoint: Checkpoint) -> dict[str, object]:
    return {
        "v": 1,
        "number": checkpoint.number,
        "time": checkpoint.time,
        "node": checkpoint.node,
        "prev": checkpoint.prev,
        "key": checkpoint.key,
        "next_key": checkpoint.next_key,
        "chains": {
            name: {
                "opening": state.opening.as_json(),
                "seq": state.seq,
                "hash": state.hash,
                "ended": state.ended,
                "torn": state.torn,
            }
            for name, state in checkpoint.chains.items()
        },
    }


def _checkpoint(members: Mapping[str, object]) -> Checkpoint:
    chains = members["chains"]
    number = members["number"]
    if members["v"] != 1 or not isinstance(number, int) or not isinstance(chains, dict):
        raise ValueError("a member is of the wrong kind")
    return Checkpoint(
        number=number,
        time=str(members["time"]),
        node=str(members["node"]),
        prev=str(members["prev"]),
        key=str(members["key"]),
        next_key=str(members["next_key"]),
        chains={name: _state(name, state) for name, state in chains.items()},
    )


def _state(name: str, state: Mapping[str, object]) -> ChainState:
    members, seq, ended = state["opening"], state["seq"], state["ended"]
    if not isinstance(members, dict) or not isinstance(seq, int):
        raise ValueError(f"the chain {name!r} is of the wrong kind")
    opening = Opening(**members)
    if opening.chain != name:
        raise ValueError(f"the chain {name!r} has the opening of another")
    if ended not in (None, "closed", "crashed"):
        raise ValueError(f"the chain {name!r} ended in an unknown way")
    return ChainState(opening, seq, str(state["hash"]), ended, str(state["torn"]))
