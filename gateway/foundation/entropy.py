"""Randomness as an argument. The only module that asks the system for it."""

import secrets
from typing import Protocol


class Entropy(Protocol):
    def bytes(self, count: int) -> bytes:
        """`count` bytes from a cryptographic generator."""


class SystemEntropy:
    bytes = staticmethod(secrets.token_bytes)


class CountingEntropy:
    """Deterministic, for tests: each call gives other bytes, the same ones in every run."""

    def __init__(self) -> None:
        self._calls = 0

    def bytes(self, count: int) -> bytes:
        self._calls += 1
        filled = self._calls.to_bytes(4, "big") * (count // 4 + 1)
        # The end, where the calls are told apart.
        return filled[len(filled) - count :]
