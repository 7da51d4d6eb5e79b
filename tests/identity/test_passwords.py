import sys
import unicodedata

import pytest
from argon2 import PasswordHasher

from gateway.foundation.entropy import SystemEntropy
from gateway.foundation.errors import Unavailable
from gateway.identity import passwords as module
from gateway.identity.passwords import (
    COST,
    MOST_CHARACTERS,
    MOST_SPELLED,
    Cost,
    Passwords,
    find_weakness,
    hash_password,
    open_hash,
    seal_hash,
)

ENTROPY = SystemEntropy()
CHEAP = Cost(memory_kib=8, passes=1, lanes=1)
CONTEXT = ("ann.lee@btb.example", "btb.example")


@pytest.fixture
def passwords():
    checker = Passwords(ENTROPY, CHEAP)
    yield checker
    checker.close()


@pytest.mark.requirement("ASVS 6.2.8", "SP 800-63B-4 3.1.1.2 storage", "ASVS 11.4.2")
async def test_verifies(passwords) -> None:
    encoded = await passwords.hash("correct horse")
    assert encoded.startswith("$argon2id$")
    assert await passwords.verify(encoded, "correct horse")
    assert not await passwords.verify(encoded, "correct horse ")
    assert not await passwords.verify(encoded, "Correct horse")
    assert encoded != await passwords.hash("correct horse")


@pytest.mark.requirement("ASVS 6.2.8", "SP 800-63B-4 3.1.1.2 length")
async def test_one_character_has_two_spellings_in_unicode(passwords) -> None:
    assert await passwords.verify(await passwords.hash("caf\u00e9 au lait"), "cafe\u0301 au lait")


@pytest.mark.requirement("SP 800-63B-4 3.1.1.2 length")
async def test_what_may_be_chosen_can_be_verified(passwords) -> None:
    """A limit that counted the spelling would lock out whoever chose a long password on a system that decomposes."""
    decomposed = unicodedata.normalize("NFD", "été là où né " * 19)
    assert len(decomposed) > MOST_CHARACTERS
    assert find_weakness(decomposed, ()) is None
    assert await passwords.verify(await passwords.hash(decomposed), decomposed)


@pytest.mark.requirement("ASVS 6.2.9", "ASVS 6.2.8", "SP 800-63B-4 3.1.1.2 rules")
async def test_nothing_is_truncated(passwords) -> None:
    encoded = await passwords.hash("x" * 255 + "a")
    assert await passwords.verify(encoded, "x" * 255 + "a")
    assert not await passwords.verify(encoded, "x" * 255 + "b")
    assert not await passwords.verify(encoded, "x" * 255)


@pytest.mark.parametrize("password", ["x" * 257, "x" * 100_000])
@pytest.mark.requirement("ASVS 15.1.3")
async def test_what_can_t_be_right_costs_one_hash_as_well(passwords, monkeypatch, password) -> None:
    verified = []
    real = PasswordHasher.verify
    monkeypatch.setattr(PasswordHasher, "verify", lambda *a: verified.append(a) or real(*a))
    assert not await passwords.verify(await passwords.hash("correct horse"), password)
    assert len(verified) == 1
    assert verified[0][1].startswith("$argon2id$v=19$m=8,t=1,p=1$")


@pytest.mark.parametrize("password", ["a" + "\u0301\u0323" * 8000, "x" * (MOST_SPELLED + 1)])
async def test_what_is_far_too_long_is_not_normalised_on_the_way(passwords, monkeypatch, password) -> None:
    """Marks that combine are sorted, which takes the time of the event loop."""
    encoded, normalised = await passwords.hash("correct horse"), []
    real = unicodedata.normalize
    monkeypatch.setattr(unicodedata, "normalize", lambda *a: normalised.append(a[1]) or real(*a))
    assert not await passwords.verify(encoded, password)
    assert "more than" in find_weakness(password, ())
    assert password not in normalised


def test_no_character_is_spelled_with_more_than_normalisation_makes_one_of() -> None:
    """Otherwise a password that can be chosen could not be given in its longest spelling."""
    characters = map(chr, range(sys.maxunicode + 1))
    longest = max(
        len(unicodedata.normalize("NFD", each)) for each in characters if unicodedata.is_normalized("NFC", each)
    )
    assert longest * MOST_CHARACTERS <= MOST_SPELLED


async def test_nobody_s_password_is_hashed_like_everybody_s(passwords) -> None:
    assert not passwords.is_outdated(passwords.nobody_s)
    for guess in ("", "correct horse", passwords.nobody_s):
        assert not await passwords.verify(passwords.nobody_s, guess)


@pytest.mark.parametrize("damaged", ["", "x", "$argon2id$", "$argon2id$v=19$m=8,t=1,p=1$AAAA$"])
@pytest.mark.requirement("ASVS 11.2.5")
async def test_a_damaged_hash_is_a_fault_and_no_verdict(passwords, damaged) -> None:
    with pytest.raises(Unavailable):
        await passwords.verify(damaged, "correct horse")


@pytest.mark.requirement("ASVS 11.2.2")
async def test_other_parameters_are_outdated(passwords) -> None:
    other = hash_password("correct horse", ENTROPY, Cost(memory_kib=16, passes=1, lanes=1))
    assert passwords.is_outdated(other)
    assert await passwords.verify(other, "correct horse")
    assert not passwords.is_outdated(await passwords.hash("correct horse"))


@pytest.mark.requirement("SP 800-63B-4 3.1.1.2 storage", "ASVS 11.4.2")
def test_the_cost_is_no_less_than_owasp_asks_for() -> None:
    assert COST.memory_kib * COST.passes >= 47_104 * 1


@pytest.mark.parametrize(
    "password",
    [
        "correct horse battery staple",
        "x7#kk2 pQ",
        "trombonist",
        "12345678 is my number",
        "пароль не скажу",
        "😀🐎🔋📎🍕🚀🎻🌧",
        "x" * 3 + "long one" * 30,
        "gatewaykeeper",
        "my name is not annlee",
    ],
)
@pytest.mark.requirement("ASVS 6.2.1", "ASVS 6.2.5", "SP 800-63B-4 3.1.1.2 rules", "SP 800-63B-4 3.1.1.2 length")
def test_may_be_chosen(password) -> None:
    assert find_weakness(password, CONTEXT) is None


@pytest.mark.parametrize(
    ("password", "because"),
    [
        ("", "fewer"),
        ("short12", "fewer"),
        ("😀" * 7, "fewer"),
        ("e\u0301" * 7, "fewer"),
        ("x1" * 129, "more"),
        ("password", "common"),
        ("PASSWORD", "common"),
        ("Password123!", "common"),
        ("!!trustno1", "common"),
        ("qwertyuiop", "common"),
        ("iloveyou", "common"),
        ("zzzzzzzzzz", "repeats"),
        ("xyxyxyxyxyx", "repeats"),
        ("fghijklmno", "repeats"),
        ("98765432", "repeats"),
        ("annlee2026", "name"),
        ("AnnLee!!!!", "name"),
        ("leelee99", "name"),
        ("Gateway2026", "name"),
        ("gateway gateway", "common name"),
        ("btb.example", "name"),
        ("ann.lee@btb.example", "name"),
    ],
)
@pytest.mark.requirement("ASVS 6.2.1", "ASVS 6.2.4", "SP 800-63B-4 3.1.1.2 length", "SP 800-63B-4 3.1.1.2 blocklist")
def test_is_too_easy(password, because) -> None:
    weakness = find_weakness(password, CONTEXT)
    assert weakness is not None
    assert any(word in weakness for word in because.split())


@pytest.mark.requirement("ASVS 6.2.4")
def test_the_blocklist_is_there() -> None:
    common = module._common()
    assert len(common) == 3000
    assert all(len(password) >= 8 and password == password.casefold() for password in common)


@pytest.mark.requirement("SP 800-63B-4 3.1.1.2 storage")
def test_a_stored_hash_opens_for_its_own_person_only(world) -> None:
    keys = world.keys.factor
    stored = seal_hash(keys, "usr_ada", "$argon2id$…".replace("…", "x"), ENTROPY)
    assert "argon2" not in stored
    assert open_hash(keys, "usr_ada", stored) == "$argon2id$x"
    assert open_hash(world.rotated(keys), "usr_ada", stored) == "$argon2id$x"
    assert open_hash(keys, "usr_eve", stored) is None
    assert open_hash(world.symmetric("factor"), "usr_ada", stored) is None
    for altered in ("", "$argon2id$x", stored[:-4] + "AAA=", "é" + stored):
        assert open_hash(keys, "usr_ada", altered) is None
