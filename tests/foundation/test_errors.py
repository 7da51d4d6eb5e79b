import json

import pytest

from gateway.foundation.errors import (
    Conflict,
    GatewayError,
    InvalidFile,
    JournalUnavailable,
    NotFound,
    Problem,
    StoreUnavailable,
    Unavailable,
)


@pytest.mark.parametrize(
    ("problem", "text"),
    [
        (Problem("is wrong"), "is wrong"),
        (Problem("is wrong", "a.b"), "a.b: is wrong"),
        (Problem("is wrong", file="x.yaml"), "x.yaml: is wrong"),
        (Problem("is wrong", "a.b", file="x.yaml", line=3), "x.yaml:3: a.b: is wrong"),
        (Problem("is wrong", "a.b", "do so", "x.yaml", 3, 7), "x.yaml:3:7: a.b: is wrong\n    hint: do so"),
    ],
)
def test_a_problem_says_where_what_and_what_to_do(problem, text):
    assert str(problem) == text


def test_a_problem_as_json():
    problem = Problem("is wrong", "a.b", "do so", "x.yaml", 3, 7)
    assert json.loads(json.dumps(problem.as_json())) == {
        "message": "is wrong", "path": "a.b", "hint": "do so", "file": "x.yaml", "line": 3, "column": 7,
    }  # fmt: skip


def test_a_file_tells_every_problem_at_once():
    problems = [Problem("first", file="x"), Problem("second", file="x", line=2)]
    error = InvalidFile(problems)
    assert error.problems == problems
    assert str(error) == "x: first\nx:2: second"


@pytest.mark.parametrize(
    ("error", "kinds"),
    [
        (StoreUnavailable, (Unavailable, GatewayError)),
        (JournalUnavailable, (Unavailable, GatewayError)),
        (NotFound, (Conflict, GatewayError)),
        (Conflict, (GatewayError,)),
    ],
)
def test_what_is_unavailable_is_never_taken_for_what_is_not_there(error, kinds):
    assert all(issubclass(error, kind) for kind in kinds)
    assert issubclass(error, Unavailable) != issubclass(error, Conflict)
