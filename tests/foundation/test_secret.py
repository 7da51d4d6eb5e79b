import copy
import json
import logging
import pickle
from dataclasses import dataclass

import pytest

from gateway.foundation.logs import JsonFormatter
from gateway.foundation.secret import Secret

CANARY = "canary-5d1c"


@dataclass(frozen=True, slots=True)
class Holder:
    name: str
    secret: Secret


PRINTED = {
    "repr": repr,
    "str": str,
    "format": lambda secret: f"{secret} {secret!s} {secret!r}",
    "percent": lambda secret: "%s %r" % (secret, secret),  # noqa: UP031 - the way that the logging module does it.
    "in a list": lambda secret: str([secret]),
    "in a dictionary": lambda secret: str({"password": secret}),
    "in a dataclass": lambda secret: str(Holder("x", secret)),
    "in an error": lambda secret: str(ValueError("no", secret)),
    "in json": lambda secret: json.dumps({"x": secret}, default=str),
    "in a log line": lambda secret: JsonFormatter("worker").format(
        logging.makeLogRecord({"msg": "signed in with %s", "args": (secret,), "password": secret})
    ),
}


@pytest.mark.parametrize("value", [CANARY, CANARY.encode()])
@pytest.mark.parametrize("how", PRINTED)
@pytest.mark.advisory("CVE-2022-23469")
def test_a_secret_never_prints_itself(how, value):
    assert CANARY not in PRINTED[how](Secret(value))


REFUSED = {
    "pickle": pickle.dumps,
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "hash": hash,
    "set": lambda secret: {secret},
    "json": json.dumps,
    "vars": vars,
    "padding": lambda secret: f"{secret:>10}",
    "iteration": list,
    "length": len,
    "concatenation": lambda secret: secret + CANARY,
}


@pytest.mark.parametrize("how", REFUSED)
def test_ways_to_the_value_that_are_not_there(how):
    with pytest.raises(TypeError) as refused:
        REFUSED[how](Secret(CANARY))
    assert CANARY not in str(refused.value)


def test_there_is_one_way_to_the_value():
    assert Secret(CANARY).reveal() == CANARY
    assert Secret(b"x").reveal() == b"x"


@pytest.mark.parametrize(
    ("left", "right", "equal"),
    [
        (Secret("ä"), Secret("ä"), True),
        (Secret("ä"), Secret("ä".encode()), True),
        (Secret(""), Secret(b""), True),
        (Secret("a"), Secret("b"), False),
        (Secret("a"), Secret("aa"), False),
        (Secret("a"), "a", False),
        ("a", Secret("a"), False),
        (Secret("a"), None, False),
    ],
)
@pytest.mark.requirement("ASVS 11.2.4")
def test_secrets_are_compared_with_secrets_only(left, right, equal):
    assert (left == right) is equal


def test_a_secret_cannot_grow_attributes():
    with pytest.raises(AttributeError):
        Secret("x").clear = "x"
