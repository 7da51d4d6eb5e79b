import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.config.parse import DEEPEST_NESTING, parse_yaml
from gateway.foundation.errors import InvalidFile, Problem


def problems(text: str) -> list[Problem]:
    """All problems of a text, whether or not they ended the reading."""
    try:
        return list(parse_yaml(text, "f").problems)
    except InvalidFile as error:
        return error.problems


def test_values_and_their_places():
    document = parse_yaml('a: 1\nb:\n  - x: "1"\n    z: [true, ]\nc:\n', "f")
    assert document.value == {"a": 1, "b": [{"x": "1", "z": [True]}], "c": None}
    assert document.place("b[0].z[0]") == (4, 9)
    assert document.keys["b[0].z"] == (4, 5)
    assert document.place("c") == (5, 1), "an empty value stands where its key does"


def test_a_path_that_is_not_there_is_placed_at_its_closest_parent():
    document = parse_yaml("a:\n  b: [1, 2]\n", "f")
    assert document.place("a.b[7].x") == document.place("a.b") == (2, 6)
    assert document.place("nowhere.at.all") == (1, 1)


def test_a_problem_found_later_gets_its_place():
    document = parse_yaml("applications:\n  - name: x\n    routes: [{path: /a}]\n", "policy.yaml")
    located = document.locate(Problem("overlaps", "applications[0].routes[0].path"))
    assert (located.file, located.line, located.column) == ("policy.yaml", 3, 21)
    assert document.locate(Problem("says nothing of a place")).line is None


@pytest.mark.parametrize(
    ("text", "line", "column", "words"),
    [
        ("", 1, 1, "empty"),
        ("# only a comment\n", 1, 1, "empty"),
        ("just text", 1, 1, "mapping"),
        ("- a\n- b\n", 1, 1, "mapping"),
        ("null", 1, 1, "mapping"),
        ("a: 1\nb: 2\na: 3\n", 3, 1, "twice"),
        ("a: {b: 1, b: {c: [2]}}\nc: 1", 1, 11, "twice"),
        ("a: &x 1\n", 1, 4, "anchor"),
        ("a: &x {b: 1}\n", 1, 4, "anchor"),
        ("a: 1\nb: *x\n", 2, 4, "alias"),
        ("a: !!str 1\n", 1, 4, "tag"),
        ("a: ! 1\n", 1, 4, "tag"),
        ("a: !!python/object/apply:os.system [id]\n", 1, 4, "tag"),
        ("a: !!binary aGk=\n", 1, 4, "tag"),
        ("<<: {a: 1}\n", 1, 1, "merge"),
        ("a: no\n", 1, 4, "true or false"),
        ("no: a\n", 1, 1, "true or false"),
        ("1: a\n", 1, 1, "not a text"),
        ("true: a\n", 1, 1, "not a text"),
        (": a\n", 1, 1, "not a text"),
        ("? [a]\n: 1\n", 1, 3, "key"),
        ("&x a: 1\n", 1, 1, "key"),
        ("!!str a: 1\n", 1, 1, "key"),
        ("%YAML 1.1\n---\na: 1\n", 1, 1, "%"),
        ("%TAG ! tag:x,2000:\n---\na: 1\n", 1, 1, "%"),
        ("a: 1\n---\nb: 2\n", 2, 1, "second document"),
        ("a: 1\n...\nb: 2\n", 3, 1, "second document"),
        ("a:\n\t- b\n", 2, 1, "tab"),
        ("a: b\t# c\n", 1, 5, "tab"),
        ("\ufeffa: 1\n", 1, 1, "U+FEFF"),
        ("a: 1\nb: \u202e1\n", 2, 4, "U+202E"),
        ("a: 1 # \u2028b: 2\n", 1, 8, "U+2028"),
        ("a: x\x85b: y\n", 1, 5, "U+0085"),
        ("a: 1\rb: 2\n", 1, 5, "U+000D"),
        ("a: \x00\n", 1, 4, "U+0000"),
        ("a: \u200bb\n", 1, 4, "U+200B"),
        ('a: "\\ud800"\n', 1, 4, "surrogate"),
        ('"\\udfff": 1\n', 1, 1, "surrogate"),
        ("a: 'b\n", 1, 4, "never closed"),
        ("a: [b, c\n", 1, 4, "bracket"),
        ("a: {b: c\n", 1, 4, "bracket"),
        ("a: b: c\n", 1, 5, 'second ":"'),
        ("a: @b\n", 1, 4, "begin"),
        ("a: *\n", 1, 5, "begin with *"),
        ("path: {tenant}/x\n", 1, 15, "does not fit"),
        ("a:\n  b: 1\n c: 2\n", 3, 2, "does not fit"),
        ('a: "\\q"\n', 1, 6, "escape"),
    ],
)
def test_hostile_documents(text, line, column, words):
    problem = problems(text)[0]
    assert words in problem.message
    assert (problem.file, problem.line, problem.column) == ("f", line, column)


def test_an_escape_beyond_unicode_is_a_problem():
    assert "not YAML" in problems('a: "\\U99999999"')[0].message


def test_depth_is_limited_and_flow_nesting_does_not_exhaust_the_stack():
    deep = DEEPEST_NESTING
    assert problems("a: " + "[" * deep + "]" * deep) == []
    assert "nested" in problems("a: " + "[" * (deep + 1) + "]" * (deep + 1))[0].message
    assert "nested" in problems("a: " + "[" * 100_000)[0].message
    assert "nested" in problems("- " * 100_000)[0].message


def test_every_problem_is_told_at_once():
    found = problems("a: no\nb: &x 1\nc: *x\na: 2\nd: 0777\n")
    assert [problem.line for problem in found] == [1, 2, 3, 4, 5]


def test_the_value_of_a_document_with_problems_is_not_to_be_had():
    document = parse_yaml("a: no\n", "f")
    with pytest.raises(InvalidFile, match="f:1:4: a: no is not quoted"):
        _ = document.value


def test_quoted_and_block_texts_are_texts():
    document = parse_yaml("a: 'no'\nb: \"0777\"\nc: |\n  1\n  2\nd: >-\n  yes\n", "f")
    assert document.value == {"a": "no", "b": "0777", "c": "1\n2\n", "d": "yes"}


def test_windows_line_ends_count_as_one_line():
    assert parse_yaml("a: 1\r\nb: 2\r\n", "f").place("b") == (2, 4)


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="ab:- \n{}[],&*!|>'\"%@#?~\\xuU019.<=\t\x00é", max_size=60))
def test_any_text_is_a_mapping_or_a_named_problem(text):
    try:
        document = parse_yaml(text, "f")
    except InvalidFile:
        return
    assert document.problems or isinstance(document.value, dict)
