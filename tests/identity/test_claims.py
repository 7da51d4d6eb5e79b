from dataclasses import replace

import pytest

from gateway.identity import factors
from gateway.identity.claims import Claim, Found, look_up, why_not
from gateway.identity.limits import AUTHENTICATOR_FAILURES
from gateway.identity.passwords import seal_hash
from gateway.identity.sign_in_steps import Why
from gateway.store.people import Person

ADA = Person("usr_1", "ada", "Ada", "-", 0.0)
FOUND = Found(ADA, "$argon2id$", "aut_1")
LAST = AUTHENTICATOR_FAILURES


@pytest.mark.parametrize(
    ("changed", "in_a_row", "is_right", "why"),
    [
        ({}, 1, True, None),
        ({}, LAST, True, None),
        ({}, LAST + 1, True, Why.PASSWORD_DISABLED),
        ({}, LAST + 1, False, Why.PASSWORD_DISABLED),
        ({}, LAST, False, Why.TOO_MANY_PASSWORDS),
        ({}, 2 * LAST, False, Why.TOO_MANY_PASSWORDS),
        ({}, 2 * LAST, True, Why.TOO_MANY_PASSWORDS),
        ({}, 2 * LAST + 1, True, Why.PASSWORD_DISABLED),
        ({}, LAST - 1, False, Why.WRONG_PASSWORD),
        ({"person": None}, LAST, False, Why.UNKNOWN_NAME),
        ({"person": None, "encoded": None, "factors": ""}, LAST + 1, True, Why.UNKNOWN_NAME),
        ({"encoded": None}, LAST, True, Why.NO_FACTOR),
        ({"factors": ""}, 1, True, Why.NO_FACTOR),
        ({"factors": ""}, 1, False, Why.WRONG_PASSWORD),
        ({"person": replace(ADA, disabled_at=1.0)}, 1, True, Why.DISABLED),
        ({"person": replace(ADA, disabled_at=1.0)}, 1, False, Why.WRONG_PASSWORD),
        ({"person": replace(ADA, removed_at=1.0)}, 1, True, Why.DISABLED),
    ],
)
def test_the_first_obstacle_counts(changed, in_a_row, is_right, why) -> None:
    found = replace(FOUND, **changed)
    claim = Claim("ada", found, (), at=0.0, in_a_row=in_a_row, request="")
    assert why_not(claim, found, is_right=is_right) is why


def test_what_names_lead_to(world) -> None:
    keys, person, bare = world.keys.factor, world.person("ada"), world.bare_person("bare")
    nobody_s = seal_hash(keys, "", world.passwords.nobody_s, world.entropy)
    found = {
        name: world.store.read(lambda c, name=name: look_up(c, keys, name, nobody_s)) for name in ("ada", "bare", "x")
    }
    assert (found["ada"].person_id, found["bare"].person_id, found["x"].person_id) == (person.id, bare.id, "")
    assert found["ada"].encoded.startswith("$argon2id$")
    assert found["ada"].factors.startswith("aut_")
    # Nobody's hash is opened, and is nobody's.
    assert found["bare"].encoded is found["x"].encoded is None
    assert found["bare"].factors == found["x"].factors == ""


@pytest.mark.parametrize("name", ["bare", "nobody"])
def test_something_is_opened_for_whoever_has_nothing(world, monkeypatch, name) -> None:
    world.bare_person("bare")
    opened = []
    real = factors.open_hash
    monkeypatch.setattr(factors, "open_hash", lambda *given: opened.append(given[2]) or real(*given))
    world.store.read(lambda c: look_up(c, world.keys.factor, name, "sealed"))
    assert opened == ["sealed"]
