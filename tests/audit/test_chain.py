"""Each record holds the one before: whatever is changed but the last line shows."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.audit.chain import ChainCheck, Opening, canonical, first_hash, origin, seal
from gateway.audit.events import EventName, event

OPENING = Opening("worker-1-20270115t080000z-00", "node-a", "worker-1", "2027-01-15T08:00:00.000000Z")


def chain_of(count: int, opening: Opening = OPENING) -> list[bytes]:
    lines, prev = [], first_hash(opening)
    for seq in range(1, count + 1):
        line, prev = seal(event(EventName.USER_ADD, float(seq), user=f"usr_{seq}"), seq, prev, origin(opening))
        lines.append(line)
    return lines


def problem_in(lines: list[bytes], opening: Opening = OPENING) -> str | None:
    check = ChainCheck(opening)
    return next((problem for line in lines if (problem := check.follow(line)) is not None), None)


def test_a_line_begins_with_what_every_record_has() -> None:
    [line] = chain_of(1)
    record = json.loads(line)
    assert list(record)[:5] == ["v", "seq", "prev", "node", "chain"]
    assert (record["v"], record["seq"], record["node"], record["chain"]) == (1, 1, "node-a", OPENING.chain)
    assert record["prev"] == first_hash(OPENING)


def test_a_chain_follows_itself_and_stays_where_a_line_does_not_fit() -> None:
    check, lines = ChainCheck(OPENING), chain_of(3)
    assert check.follow(lines[0]) is None
    before = check.head
    assert check.follow(lines[2]) is not None
    assert check.head == before
    assert check.follow(lines[1]) is None
    assert check.head.seq == 2


def test_many_lines_are_followed_up_to_the_one_that_does_not_fit() -> None:
    lines = chain_of(4)
    whole, broken = ChainCheck(OPENING), ChainCheck(OPENING)
    assert whole.follow_all(lines) is None
    assert whole.head.seq == 4
    assert broken.follow_all([*lines[:2], lines[3]]) == "has number 4 where 3 is due"
    assert broken.head.seq == 2
    assert broken.follow_all(lines[2:]) is None
    assert broken.head == whole.head
    assert broken.follow_all([]) is None


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda lines: [lines[1], lines[0], *lines[2:]], "number 2 where 1 is due"),
        (lambda lines: [lines[0], lines[0], *lines[1:]], "number 1 where 2 is due"),
        (lambda lines: lines[1:], "number 2 where 1 is due"),
        (lambda lines: [*lines[:2], *lines[3:]], "number 4 where 3 is due"),
        (lambda lines: [lines[0].replace(b"usr_1", b"usr_9"), *lines[1:]], "one of the two was changed"),
        (lambda lines: [lines[0][:-1] + b" \n", *lines[1:]], "is not one whole record"),
        (lambda lines: [lines[0] + lines[1], *lines[2:]], "is not one whole record"),
        (lambda lines: [b"{}\n"], "has format version None"),
        (lambda lines: [b"[]\n"], "is not a JSON object"),
        (lambda lines: [b"[" * 100_000 + b"\n"], "is not a JSON object"),
        (lambda lines: [b"\n"], "is not a JSON object"),
        (lambda lines: [b"\xff\xfe\n"], "is not a JSON object"),
        (lambda lines: [lines[0].replace(b'"v":1', b'"v":2')], "has format version 2"),
        (lambda lines: [lines[0].replace(b"node-a", b"node-b")], "does not begin like a record of the chain"),
        (lambda lines: [lines[0].replace(b'{"v":1,', b'{"v": 1,')], "does not begin like a record of the chain"),
    ],
)
def test_what_does_not_fit_is_named(change, problem) -> None:  # type: ignore[no-untyped-def]  # A table of lambdas.
    found = problem_in(change(chain_of(4)))
    assert found is not None
    assert problem in found


@pytest.mark.parametrize("field", ["chain", "node", "process", "time"])
def test_a_chain_belongs_to_its_opening(field: str) -> None:
    other = Opening(**{**OPENING.as_json(), field: "another"})
    assert first_hash(other) != first_hash(OPENING)
    assert problem_in(chain_of(2), other) is not None


@pytest.mark.parametrize("name", ["", "..", "../x", "/etc", "A", "a/b", "a\n", ".a", "-a", "a" * 200, "é"])
def test_a_chain_s_name_is_a_plain_folder_s(name: str) -> None:
    with pytest.raises(ValueError, match="is not the name of a chain"):
        Opening(name, "n", "p", "t")


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_no_byte_changes_unnoticed_but_in_the_last_line(data: st.DataObject) -> None:
    lines = chain_of(4)
    content = bytearray(b"".join(lines))
    position = data.draw(st.integers(0, len(content) - len(lines[-1]) - 2))
    content[position] ^= data.draw(st.integers(1, 255))
    assert problem_in(bytes(content).splitlines(keepends=True)) is not None


@given(st.lists(st.text(max_size=20), min_size=1, max_size=5))
@settings(max_examples=60, deadline=None)
def test_any_records_make_a_chain(users: list[str]) -> None:
    prev, lines = first_hash(OPENING), []
    for seq, user in enumerate(users, start=1):
        line, prev = seal(event(EventName.USER_ADD, 0.0, user=user), seq, prev, origin(OPENING))
        lines.append(line)
    assert problem_in(lines) is None
    assert [json.loads(line)["user"] for line in lines] == users


def test_canonical_refuses_what_has_no_one_spelling() -> None:
    assert canonical({"b": "é", "a": [1, None]}) == b'{"a":[1,null],"b":"\\u00e9"}'
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical({"a": float("nan")})
