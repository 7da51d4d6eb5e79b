from pathlib import Path
from typing import Literal

import pytest
from pydantic import BaseModel, ConfigDict, model_validator

from gateway.config.check import validate
from gateway.config.parse import parse_yaml
from gateway.config.schema import Settings
from gateway.config.translate import wrong
from gateway.foundation.errors import InvalidFile, Problem


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Circle(Section):
    radius: int


class Box(Section):
    width: int
    height: int


class Sheet(Section):
    title: str = ""
    tags: tuple[str, ...] = ()
    colours: frozenset[Literal["red", "green"]] = frozenset()
    shapes: dict[str, Circle | Box | Literal["none"]] = {}
    nested: tuple[Box, ...] = ()

    @model_validator(mode="after")
    def _titled(self):
        if self.title == "bad":
            raise wrong("is a bad title", "title", "choose another")
        return self


def problems(text: str, model: type[BaseModel] = Sheet) -> list[Problem]:
    with pytest.raises(InvalidFile) as caught:
        validate(parse_yaml(text, "f"), model, {"folder": Path("/etc/btb")})
    return caught.value.problems


def test_a_list_becomes_a_tuple_or_a_set_and_nothing_else_is_converted():
    sheet = validate(parse_yaml("tags: [a, b]\ncolours: [red]\nshapes: {x: none, z: {radius: 1}}", "f"), Sheet)
    assert sheet.tags == ("a", "b")
    assert sheet.colours == {"red"}
    assert sheet.shapes == {"x": "none", "z": Circle(radius=1)}


UNKNOWN = ("is not known here", "known here: height, width")
NOT_A_NUMBER = ("needs a whole number, but is a text", "write the number without quotes and without a unit")


@pytest.mark.parametrize(
    ("text", "path", "place", "message", "hint"),
    [
        ("titel: x", "titel", (1, 1), "is not known here", "did you mean title?"),
        ("zzz: x", "zzz", (1, 1), "is not known here", "known here: colours, nested, shapes, tags, title"),
        ("title: 5", "title", (1, 8), "needs a text, but is 5", 'quote it: "5"'),
        ("title: true", "title", (1, 8), "needs a text, but is true", 'quote it: "true"'),
        ("title: [x]", "title", (1, 8), "needs a text, but is a list", ""),
        ("title:", "title", (1, 1), "needs a text, but is empty", "fill it in, or remove the line"),
        ("tags: a", "tags", (1, 7), "needs a list, but is a text", "put it in brackets: [ … ]"),
        ("tags: [a, 1]", "tags[1]", (1, 11), "needs a text, but is 1", 'quote it: "1"'),
        ("colours: [gren]", "colours[0]", (1, 11), "must be 'red' or 'green'", "did you mean green?"),
        ("nested: [{width: 1}]", "nested[0].height", (1, 10), "is missing", ""),
        ("nested: [{width: 1, height: '2'}]", "nested[0].height", (1, 29), *NOT_A_NUMBER),
        ("nested: [{width: 1, height: 2, w: 3}]", "nested[0].w", (1, 32), *UNKNOWN),
        ("nested: [5]", "nested[0]", (1, 10), "needs a mapping, but is 5", ""),
        ("title: bad", "title", (1, 8), "is a bad title", "choose another"),
        ("shapes: {x: {radius: a}}", "shapes.x.radius", (1, 22), *NOT_A_NUMBER),
        ("shapes: {x: {width: 1}}", "shapes.x.height", (1, 10), "is missing", ""),
        ("shapes: {x: nine}", "shapes.x", (1, 13), "must be 'none'", "did you mean none?"),
    ],
)  # fmt: skip
def test_pydantic_in_the_users_words(text, path, place, message, hint):
    (problem,) = problems(text)
    assert (problem.path, (problem.line, problem.column)) == (path, place)
    assert (problem.message, problem.hint) == (message, hint)


def test_a_value_that_yaml_complained_of_is_not_complained_of_twice():
    (problem,) = problems("tags: no\n")
    assert "is not quoted" in problem.message
    (problem,) = problems("nested: [&x {}]\n")
    assert "anchor" in problem.message


@pytest.mark.requirement("ASVS 13.3.1")
def test_a_text_that_may_be_a_secret_is_not_repeated():
    told = str(problems("master_key: hunter2secret\ndomain: a.b\ntls: {local_ca: true}", Settings)[0])
    assert "hunter2" not in told
    told = str(problems("master_key: {env: hunter2-secret}\ndomain: a.b\ntls: {local_ca: true}", Settings)[0])
    assert "hunter2" not in told


FIVE_MISTAKES = """\
domain: btb.localhost
state_dirr: ./var
master_key: {file: /etc/btb/key}
listen:
  https: "0.0.0.0:84430"
sessions: {idle: 1 hour}
tls: {local_ca: no}
domain: other.example
"""


def test_five_mistakes_at_once_in_the_order_of_the_file():
    found = problems(FIVE_MISTAKES, Settings)
    assert [(p.path, p.line, p.column) for p in found] == [
        ("state_dirr", 2, 1),
        ("listen.https", 5, 10),
        ("sessions.idle", 6, 18),
        ("tls.local_ca", 7, 17),
        ("domain", 8, 1),
    ]
    assert [(p.message, p.hint) for p in found] == [
        ("is not known here", "did you mean state_dir?"),
        ("the port 84430 is not between 1 and 65535", "8443 and 8080 are the usual ones here"),
        ("'1 hour' is not a length of time: write a number and a unit, like 90s, 15m, 1h or 30d", ""),
        (
            "no is not quoted, and some YAML readers take it for true or false",
            'write true or false; if you mean the text, quote it: "no"',
        ),
        ("this key is here twice", "the first one is on line 1"),
    ]
    assert str(found[0]) == "f:2:1: state_dirr: is not known here\n    hint: did you mean state_dir?"
