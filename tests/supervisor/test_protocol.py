"""What one version hands over to the next, and what it says to processes of the other: written down, since both are
there in a restart. The list is made of the code, so that nothing is in it that nobody sends."""

import ast
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

from gateway.metrics import DEFINITIONS
from gateway.supervisor import channel
from gateway.supervisor.equipment import ROLES, Equipment
from gateway.supervisor.questions import MAY_ASK
from gateway.supervisor.succession import PROTOCOL, Inheritance, Left

WRITTEN = Path(__file__).with_name("protocol.txt")
WHAT_TO_DO = """What versions say to each other has changed. Does the version before understand it, and do you
understand what it says, as it is? If not, or where nobody knows: add
one to gateway.supervisor.succession:PROTOCOL, so that a
restart between the two is refused, and takes a stop and a start. Either way, write down what it is now:
cp {} {}"""


def test_what_versions_say_to_each_other_changes_on_purpose_only(place, tmp_path):
    now, written = [line.rstrip() for line in protocol(place)], WRITTEN.read_text().splitlines()
    (tmp_path / WRITTEN.name).write_text("".join(f"{line}\n" for line in now))
    # Another metric is no change: nobody from before counts it. One less is: their totals would be none.
    expected = [line for line in now if not line.startswith("totals:") or line in written]
    assert expected == written, WHAT_TO_DO.format(tmp_path / WRITTEN.name, WRITTEN)


def protocol(place) -> Iterator[str]:
    yield f"protocol {PROTOCOL}"
    for kind in (Inheritance, Left):
        for each in fields(kind):
            yield f"handed over: {kind.__name__}.{each.name}: {each.type}"
    with Equipment.for_configuration(place.configuration()) as equipment:
        for name in sorted(equipment.left()):
            yield f"handed over: socket {name}"
        for role in ROLES:
            yield f"given to the {role}: {' '.join(sorted(equipment.for_role(role)))}"
    yield f"configuration: {' '.join(sorted(place.configuration().as_message()))}"
    yield f"frame: {channel._LENGTH.format}"
    for kind, members in sorted(channel._FROM_CHILDREN.items()):
        yield f"taken from children: {kind} {' '.join(sorted(members))}"
    for asker, to, what in sorted(MAY_ASK):
        yield f"may be asked: {to} by {asker} {what}"
    yield from sorted({line for path in Path(channel.__file__).parent.glob("*.py") for line in _said(path)})
    for each in sorted(DEFINITIONS, key=lambda each: each.name):
        if each.kind == "histogram":
            yield f"totals: {each.name} of {len(each.buckets)} buckets by {' '.join(each.labels) or 'nothing'}"
        else:
            yield f"totals: {each.name} by {' '.join(each.labels) or 'nothing'}"


def _said(path: Path) -> Iterator[str]:
    """Every message that this module makes: its kind and members. A question's are its arguments."""
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Dict(keys=[ast.Constant(value="kind"), *others], values=[ast.Constant(value=kind), *values]):
                members = [
                    ast.unparse(key) if key is not None else f"**{ast.unparse(value)}"
                    for key, value in zip(others, values, strict=True)
                ]
                yield f"said: {kind} {' '.join(sorted(members))}"
            case ast.Call(func=ast.Attribute(attr="send"), args=[ast.Constant(value=str(kind)), *_], keywords=given):
                yield f"said: {kind} {_names(given)}"
            case ast.Call(
                func=ast.Attribute(attr="ask"), args=[ast.Constant(value=to), ast.Constant(value=what)], keywords=given
            ):
                yield f"asked: {to} {what} {_names(given)}"


def _names(given: list[ast.keyword]) -> str:
    return " ".join(sorted(each.arg if each.arg is not None else f"**{ast.unparse(each.value)}" for each in given))
