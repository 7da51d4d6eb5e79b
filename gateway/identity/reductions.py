"""What has taken authority from somebody since a moment, as the journal tells it, to be done again on an older store.

Sessions, tokens and links need no such thing: a new epoch voids all of them. What remains are people who were disabled
or removed, grants that were taken, factors that were replaced, and tenants that were closed. What was given back
afterwards is not taken again; nothing that was given is given again.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import Connection

from gateway.audit.events import EventFields, EventName, member
from gateway.audit.search import Filter, Record, search
from gateway.foundation.principal import Grant
from gateway.store import factors, grants, people, tenants

_TAKES = {
    EventName.USER_DISABLE: EventName.USER_DISABLE,
    EventName.USER_REMOVE: EventName.USER_REMOVE,
    EventName.GRANT_REMOVE: EventName.GRANT_REMOVE,
    EventName.TENANT_CLOSE: EventName.TENANT_CLOSE,
    EventName.USER_RESET: EventName.USER_RESET,
    # Those from before are no longer theirs, whoever has them now.
    EventName.ENROLMENT_DONE: EventName.USER_RESET,
    EventName.FACTOR_ADD: EventName.USER_RESET,
}
"""Event → what is done again for it."""

_GIVES_BACK = {EventName.USER_ENABLE: EventName.USER_DISABLE, EventName.GRANT_ADD: EventName.GRANT_REMOVE}


@dataclass(frozen=True, slots=True)
class Repeated:
    """One thing that was done again, as its event tells it."""

    name: EventName
    fields: EventFields

    def __str__(self) -> str:
        return " ".join([self.name, *(str(value) for value in self.fields.values())])


Subject = tuple[str, str]
"""Person and grant, person and nothing, or tenant and nothing."""


@dataclass(frozen=True, slots=True)
class Reductions:
    taken: dict[tuple[EventName, Subject], None] = field(default_factory=dict)
    """In the order in which they were first taken."""
    unreadable: int = 0

    def repeat(self, connection: Connection, now: float) -> Iterator[Repeated]:
        """Take again what this store gives. What it doesn't know is passed over."""
        for name, (subject, grant) in self.taken:
            if name == EventName.TENANT_CLOSE:
                if subject in tenants.open_names(connection):
                    tenants.close(connection, subject, now)
                    yield Repeated(name, {"tenant": subject})
            elif _repeat_for_person(connection, name, subject, grant, now):
                fields: EventFields = {"user": subject}
                yield Repeated(name, {**fields, "grant": grant} if grant else fields)


def read_reductions(state_dir: Path, since: float) -> Reductions:
    taken: dict[tuple[EventName, Subject], None] = {}
    unreadable = 0
    for record in search(state_dir, Filter(since=since)):
        if record.get("kind") == "unreadable":
            unreadable += 1
        elif record.get("kind") == "event":
            _note(taken, record)
    return Reductions(taken, unreadable)


def _note(taken: dict[tuple[EventName, Subject], None], record: Record) -> None:
    # Workers decide on requests and take nothing from anybody: one that was taken over must not give back either.
    if (member(record, "chain") or "").startswith("worker-"):
        return
    known = EventName.__members__.values()
    name = next((each for each in known if each.value == record.get("event")), None)
    if name in _TAKES:
        taken.setdefault((_TAKES[name], _subject(record)))
    elif name in _GIVES_BACK:
        taken.pop((_GIVES_BACK[name], _subject(record)), None)


def _subject(record: Record) -> Subject:
    return member(record, "user") or member(record, "tenant") or "", member(record, "grant") or ""


def _repeat_for_person(connection: Connection, name: EventName, person: str, grant: str, now: float) -> bool:
    found = people.get(connection, person)
    if found is None or found.removed_at is not None:
        return False
    match name:
        case EventName.USER_DISABLE:
            return people.disable(connection, person, now)
        case EventName.USER_REMOVE:
            people.remove(connection, person, now)
            return True
        case EventName.GRANT_REMOVE:
            return grants.remove(connection, person, Grant.parse(grant), now)
        case EventName.USER_RESET:
            had = factors.has_any(connection, person)
            factors.forget(connection, person)
            return had
        case _:
            return False
