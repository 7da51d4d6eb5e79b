import re
from pathlib import Path

import pytest

from gateway.cli import remote
from gateway.foundation.errors import GatewayError
from gateway.supervisor import commands, offline
from gateway.supervisor.arguments import MOST_CHARACTERS, MOST_SECONDS, SHAPES, require_shape


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"name": "ada", "home": None, "grants": [], "credentials": None},
        {"name": "x" * MOST_CHARACTERS, "grants": ["support@acme"]},
        {"credentials": {"password": "été 😀", "totp_secret": ""}},
        {"user": None, "session": None, "tenant": None, "all": False},
        {"expires_seconds": 3600},
        {"expires_seconds": 0.5},
        {"expires_seconds": None},
        {"names": ["acme", "beta"], "applications": []},
    ],
)
def test_fits(arguments) -> None:
    require_shape("user.add", arguments)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"name": None}, "name has to be a text"),
        ({"name": 7}, "name has to be a text"),
        ({"name": ["ada"]}, "name has to be a text"),
        ({"name": "\ud800"}, "name has to be a text"),
        ({"name": "x" * (MOST_CHARACTERS + 1)}, "name has to be a text"),
        ({"names": "acme"}, "names has to be a list of texts"),
        ({"names": {"acme": 1}}, "names has to be a list of texts"),
        ({"names": ["acme", 7]}, "names has to be a list of texts"),
        ({"grants": None}, "grants has to be a list of texts"),
        ({"home": 7}, "home has to be a text"),
        ({"expires_seconds": "1h"}, "a number of seconds"),
        ({"expires_seconds": True}, "a number of seconds"),
        ({"expires_seconds": 0}, "a number of seconds"),
        ({"expires_seconds": -1}, "a number of seconds"),
        ({"expires_seconds": float("nan")}, "a number of seconds"),
        ({"expires_seconds": float("inf")}, "a number of seconds"),
        ({"expires_seconds": MOST_SECONDS + 1}, "a number of seconds"),
        ({"all": "yes"}, "all has to be true or false"),
        ({"credentials": ["a", "b"]}, "both texts"),
        ({"credentials": {"password": "x"}}, "both texts"),
        ({"credentials": {"password": "x", "totp_secret": None}}, "both texts"),
        ({"credentials": {"password": "x", "totp_secret": "y", "more": "z"}}, "both texts"),
        ({"nmae": "ada"}, "takes no argument 'nmae'"),
    ],
)
@pytest.mark.advisory("GHSA-gx7w-56w6-g48x")
def test_does_not_fit(arguments, says) -> None:
    with pytest.raises(GatewayError, match=says) as refused:
        require_shape("user.add", arguments)
    assert str(refused.value).startswith("user.add")


def test_no_value_is_quoted() -> None:
    for arguments in ({"credentials": {"password": "s3cret"}}, {"name": ["s3cret"]}, {"all": "s3cret"}):
        with pytest.raises(GatewayError) as refused:
            require_shape("user.add", arguments)
        assert "s3cret" not in str(refused.value)


def test_every_argument_that_a_command_reads_has_a_shape() -> None:
    source = "".join(Path(module.__file__).read_text() for module in (commands, offline))
    read = set(re.findall(r"\barguments(?:\.get\(|\[)\"(\w+)\"", source))
    assert read
    # The keeper itself reads what is to be rotated.
    assert read | {"purpose"} == SHAPES.keys()


def described() -> dict[str, set[str]]:
    """The table of verbs: the names of the arguments of each."""
    head, *rows = remote.__doc__.partition("\nverb ")[2].partition("\n\n")[0].splitlines()
    begin, end = head.index("arguments") + len("verb "), head.index("result") + len("verb ")
    found: dict[str, set[str]] = {}
    verb = ""
    for row in rows[1:]:
        first = row.split(" ")[0]
        verb = first or verb
        names = re.sub(r"\(.*?\)|\{.*?\}|\| null|: true|\bone of\b", "", row[max(begin, len(first)) : end])
        found.setdefault(verb, set()).update(re.findall(r"\w+", names))
    return found


def test_every_verb_has_its_arguments_and_each_of_them_its_shape() -> None:
    found = described()
    assert found["user.add"] == {"name", "home", "grants", "credentials"}
    assert found["session.revoke"] == {"user", "session", "tenant", "all"}
    assert found["keys.rotate"] == {"purpose"}
    running = {"status", "reload", "restart", "keys.list", "keys.rotate", "keys.rewrap"}
    assert found.keys() == offline.OFFLINE.keys() | running
    assert set().union(*found.values()) == SHAPES.keys()
