"""Passwords: how they are hashed, and which ones may be chosen.

Law: as many hashes at once as there is memory for, and bounded places behind them (`turns`); beyond that the answer is
`Unavailable`, for known and unknown names alike. A name without an account costs exactly one hash as well
(CVE-2026-32595). Rules follow NIST SP 800-63B-4, 3.1.1.2: length and a blocklist, no composition, nothing truncated.
"""

import base64
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import combinations, pairwise

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError, VerifyMismatchError

from gateway.foundation.entropy import Entropy
from gateway.foundation.errors import Unavailable
from gateway.foundation.keyring import Key, KeySet, is_sealed_by, seal, unseal
from gateway.identity.turns import Bounds, Turns

LEAST_CHARACTERS, MOST_CHARACTERS = 8, 256
MOST_SPELLED = 4 * MOST_CHARACTERS
"""Code points before normalisation, which makes one of four at most (no character of Unicode decomposes into more), and
takes time with the square of those that combine."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Parameters of argon2id (RFC 9106)."""

    memory_kib: int
    passes: int
    lanes: int


COST = Cost(memory_kib=47_104, passes=1, lanes=1)
"""The first choice of the OWASP Password Storage Cheat Sheet (46 MiB, one pass): some 50 ms of one core, and two at
once fit beside a small node's other processes. A change here re-hashes each password at its owner's next sign-in."""


def hash_password(password: str, entropy: Entropy, cost: Cost = COST) -> str:
    """The encoded hash. Takes its time: on an event loop use `Passwords.hash`."""
    return _hasher(cost).hash(_prepared(password), salt=entropy.bytes(16))


class Passwords:
    """Hashes and verifies off the event loop, in turns: strangers after all others. Who asks holds a place."""

    def __init__(self, entropy: Entropy, cost: Cost = COST, bounds: Bounds | None = None) -> None:
        self._entropy, self._cost = entropy, cost
        self._turns = Turns(bounds or Bounds(), "passwords")
        self.known_place, self.stranger_place = self._turns.known_place, self._turns.stranger_place
        self.nobody_s = hash_password(entropy.bytes(16).hex(), entropy, cost)
        """The hash of a password that nobody knows: to be verified where there is none."""

    async def hash(self, password: str) -> str:
        return await self._turns.take(lambda: hash_password(password, self._entropy, self._cost), is_stranger=False)

    async def verify(self, encoded: str, password: str, *, is_stranger: bool = False) -> bool:
        """Whether it is the password behind `encoded`. Raises Unavailable when it takes too long, and when the stored
        hash is damaged."""
        if _is_too_long(password):
            await self._turns.take(lambda: self._matches(self.nobody_s, ""), is_stranger=is_stranger)
            return False
        return await self._turns.take(lambda: self._matches(encoded, password), is_stranger=is_stranger)

    def is_outdated(self, encoded: str) -> bool:
        """Whether a hash was made with other parameters than today's."""
        return _hasher(self._cost).check_needs_rehash(encoded)

    def close(self) -> None:
        self._turns.close()

    def _matches(self, encoded: str, password: str) -> bool:
        try:
            return _hasher(self._cost).verify(encoded, _prepared(password))
        except VerifyMismatchError:
            return False
        except (VerificationError, InvalidHashError) as error:
            raise Unavailable("a stored password hash is damaged") from error


def find_weakness(password: str, context: Iterable[str]) -> str | None:
    """Why this password can't be chosen, in the user's words; None if it can.

    `context`: words that an attacker of this account tries first (its name, the domain, the product).
    """
    if _is_too_long(password):
        return f"it has more than {MOST_CHARACTERS} characters"
    prepared = _prepared(password)
    if len(prepared) < LEAST_CHARACTERS:
        return f"it has fewer than {LEAST_CHARACTERS} characters; several words in a row make a good password"
    cores = _cores(prepared.casefold())
    if cores & _common():
        return "it is one of the most common passwords, which are tried first"
    if any(_is_pattern(core) for core in cores):
        return "it repeats or counts; several words in a row make a good password"
    if cores & _context_words(context):
        return "it is made of your name or the name of this service"
    return None


def _is_too_long(password: str) -> bool:
    return len(password) > MOST_SPELLED or len(_prepared(password)) > MOST_CHARACTERS


def _prepared(password: str) -> str:
    return unicodedata.normalize("NFC", password)


def _cores(folded: str) -> set[str]:
    """As a whole, without signs, and without the digits that people put around a word to please other rules."""
    bare = "".join(character for character in folded if character.isalnum())
    return {folded, bare, bare.strip("0123456789")}


def _is_pattern(core: str) -> bool:
    """`aaaaaaaa`, `abcabcabc`, `12345678`, `hgfedcba`; too short a core says nothing of the password around it."""
    if len(core) < LEAST_CHARACTERS:
        return False
    if any(core == (core[:unit] * len(core))[: len(core)] for unit in (1, 2, 3, 4)):
        return True
    return {ord(after) - ord(before) for before, after in pairwise(core)} in ({1}, {-1})


def _context_words(context: Iterable[str]) -> set[str]:
    """Every run of a text's parts: of `ann.lee@btb.example` also `ann`, `annlee`, `btbexample`. Each once and twice."""
    words: set[str] = set()
    for text in ("btb gateway", *context):
        folded = unicodedata.normalize("NFC", text).casefold()
        parts = "".join(character if character.isalnum() else " " for character in folded).split()
        words |= {"".join(parts[begin:end]) for begin, end in combinations(range(len(parts) + 1), 2)}
    return words | {word * 2 for word in words}


@cache
def _common() -> frozenset[str]:
    lines = files("gateway.identity").joinpath("common_passwords.txt").read_text("utf-8").splitlines()
    return frozenset(line for line in lines if not line.startswith("#"))


@cache
def _hasher(cost: Cost) -> PasswordHasher:
    return PasswordHasher(time_cost=cost.passes, memory_cost=cost.memory_kib, parallelism=cost.lanes)


def seal_hash(factor_keys: KeySet, person: str, encoded: str, entropy: Entropy) -> str:
    """For the store: a hash opens with the factor key and for its own person only.

    So a stolen store alone can't be guessed against (the keyed round of NIST SP 800-63B-4, 3.1.1.2), and whoever can
    write to it can't give somebody else's account their own password.
    """
    sealed = seal(factor_keys.current, encoded.encode("ascii"), _bound_to(person), entropy)
    return base64.b64encode(sealed).decode("ascii")


def is_hash_sealed_by(factor_key: Key, stored: str) -> bool:
    try:
        return is_sealed_by(factor_key, base64.b64decode(stored, validate=True))
    except ValueError:
        return False


def open_hash(factor_keys: KeySet, person: str, stored: str) -> str | None:
    try:
        opened = unseal(factor_keys, base64.b64decode(stored, validate=True), _bound_to(person))
    except ValueError:
        return None
    return None if opened is None else opened.decode("ascii")


def _bound_to(person: str) -> str:
    return f"password/{person}"
