"""Parent sessions (one per sign-in), their host tokens (one per application host), and when they were last used.

Law: authority is read from the parent alone: a host token says on which host it counts, and nothing else. An ended
session never lives again. `activity` is written often and is in no feed.
"""

import sys
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from sqlalchemy import ColumnElement, Connection, and_, bindparam, delete, insert, or_, select, update

from gateway.foundation.errors import Conflict
from gateway.store import changes, seals
from gateway.store.faults import conflict
from gateway.store.seals import Content
from gateway.store.tables import ACTIVITY, HOST_TOKENS, PEOPLE, PERSON_GRANTS, SESSIONS, AnyRow, AnySelect


class Session(NamedTuple):
    """A tuple and no dataclass: a worker makes 100,000 of them at its start, at a third of the cost."""

    id: str
    """`ses_…`, not a secret"""
    person: str
    created_at: float
    until: float
    """When its absolute life ends."""
    otp_time: float | None
    amr: tuple[str, ...]
    client: str
    """What the person will know it by: browser and address."""
    ended_at: float | None = None
    ended_why: str | None = None
    last_used: float = 0.0


class HostToken(NamedTuple):
    token_hash: bytes
    session: str
    host: str


class LiveSession(NamedTuple):
    """A session with all tokens that stand for it."""

    session: Session
    host_tokens: tuple[HostToken, ...]


def create(connection: Connection, session: Session) -> None:
    """In no feed: before it has a host token, nothing can be asked with it. Raises Conflict."""
    seals.will_change(connection, "session", (session.id,))
    with conflict(Conflict(f"{session.id!r} is taken, or there is no person {session.person!r}")):
        connection.execute(
            insert(SESSIONS).values(
                id=session.id,
                person=session.person,
                created_at=session.created_at,
                until=session.until,
                otp_time=session.otp_time,
                amr=" ".join(session.amr),
                client=session.client,
            )
        )
        connection.execute(insert(ACTIVITY).values(session=session.id, last_used=session.created_at))


def put_host_token(connection: Connection, token: HostToken, now: float) -> bool:
    """Give the session this token on its host, in place of any it had there. False if the session is not live."""
    live = connection.execute(select(SESSIONS.c.id).where(SESSIONS.c.id == token.session, *is_live(now)))
    if live.one_or_none() is None:
        return False
    changes.record(connection, "session", token.session, now)
    columns = HOST_TOKENS.c
    connection.execute(delete(HOST_TOKENS).where(columns.session == token.session, columns.host == token.host))
    with conflict(Conflict("this host token is taken")):
        connection.execute(insert(HOST_TOKENS).values(token._asdict()))
    return True


def renew_otp(connection: Connection, session: str, otp_time: float, now: float) -> bool:
    """A fresh code was given in this session. False if it is not live."""
    live = connection.execute(select(SESSIONS.c.id).where(SESSIONS.c.id == session, *is_live(now)))
    if live.one_or_none() is None:
        return False
    changes.record(connection, "session", session, now)
    connection.execute(update(SESSIONS).where(SESSIONS.c.id == session).values(otp_time=otp_time))
    return True


def touch(connection: Connection, uses: Mapping[str, float]) -> None:
    """Session id → when it was last used. Never moves back; sessions that are gone are passed over."""
    if uses:
        later = update(ACTIVITY).where(ACTIVITY.c.session == bindparam("id"), ACTIVITY.c.last_used < bindparam("at"))
        rows = [{"id": session, "at": used} for session, used in uses.items()]
        connection.execute(later.values(last_used=bindparam("at")), rows)


def end(connection: Connection, session: str, why: str, now: float) -> bool:
    """Whether it was live until now."""
    return bool(_end(connection, SESSIONS.c.id == session, why, now))


def end_of_person(connection: Connection, person: str, why: str, now: float) -> tuple[str, ...]:
    return _end(connection, SESSIONS.c.person == person, why, now)


def end_of_tenant(
    connection: Connection, tenant: str, why: str, now: float, at_most: int | None = None
) -> tuple[str, ...]:
    """Of everybody who is at home at the tenant or holds a grant that names it."""
    at_home = select(PEOPLE.c.id).where(PEOPLE.c.home == tenant)
    granted = select(PERSON_GRANTS.c.person).where(PERSON_GRANTS.c.tenant == tenant)
    return _end(connection, or_(SESSIONS.c.person.in_(at_home), SESSIONS.c.person.in_(granted)), why, now, at_most)


def end_all(connection: Connection, why: str, now: float, at_most: int | None = None) -> tuple[str, ...]:
    return _end(connection, SESSIONS.c.id.is_not(None), why, now, at_most)


def end_idle(connection: Connection, since: float, now: float, at_most: int | None = None) -> tuple[str, ...]:
    """Those that nobody has used after `since`, by all that was recorded."""
    unused = select(ACTIVITY.c.session).where(ACTIVITY.c.last_used <= since)
    return _end(connection, and_(SESSIONS.c.id.in_(unused), SESSIONS.c.until > now), "idle", now, at_most)


def get(connection: Connection, session: str) -> Session | None:
    """Also one that ended, until it is swept."""
    row = connection.execute(selected().where(SESSIONS.c.id == session)).one_or_none()
    return from_row(row) if row else None


def listing(connection: Connection, now: float, person: str | None = None) -> tuple[Session, ...]:
    """The live ones, newest first: of one person, or of all."""
    whose = [] if person is None else [SESSIONS.c.person == person]
    rows = connection.execute(selected().where(*is_live(now), *whose).order_by(SESSIONS.c.created_at.desc()))
    return tuple(from_row(row) for row in rows)


def end_expired(connection: Connection, now: float, at_most: int | None = None) -> tuple[str, ...]:
    """Those whose absolute life is over: workers have refused them since."""
    return _end(connection, SESSIONS.c.until <= now, "expired", now, at_most)


def sweep(connection: Connection, before: float) -> int:
    """Drop what ended before this time. How many."""
    return connection.execute(delete(SESSIONS).where(SESSIONS.c.ended_at < before)).rowcount


def content(session: Session, host_tokens: Iterable[HostToken]) -> Content:
    """What is sealed of one that has not ended; when it was last used is not."""
    held = tuple(sorted((token.token_hash, token.host) for token in host_tokens))
    return ("session", *session[:5], " ".join(session.amr), session.client, held)


def contents(connection: Connection, keys: Sequence[str] | None = None) -> Mapping[str, Content]:
    """Of those that have not ended, even if their time is over."""
    return {live.session.id: content(live.session, live.host_tokens) for live in unended(connection, keys)}


def unended(connection: Connection, keys: Sequence[str] | None = None) -> list[LiveSession]:
    """With their host tokens, unproven. Of these, or all."""
    which = [SESSIONS.c.ended_at.is_(None)]
    if keys is not None:
        which.append(SESSIONS.c.id.in_(keys))
    joined = select(HOST_TOKENS).join(SESSIONS, SESSIONS.c.id == HOST_TOKENS.c.session).where(*which)
    tokens: dict[str, tuple[HostToken, ...]] = {}
    for row in connection.execute(joined).all():
        token = host_token_from_row(row)
        tokens[token.session] = (*tokens.get(token.session, ()), token)
    rows = connection.execute(selected().where(*which)).all()
    return [LiveSession(session, tokens.get(session.id, ())) for session in map(from_row, rows)]


def is_genuine(connection: Connection, session: str) -> bool:
    """Whether we have written it as it is."""
    return seals.is_genuine(connection, "session", session, contents(connection, (session,)).get(session))


_COLUMNS = (*SESSIONS.c, ACTIVITY.c.last_used)


def selected() -> AnySelect:
    """The rows that `from_row` reads."""
    return select(*_COLUMNS).join(ACTIVITY, ACTIVITY.c.session == SESSIONS.c.id)


def from_row(row: AnyRow) -> Session:
    session, person, created_at, until, otp_time, amr, client, ended_at, ended_why, last_used = row
    return Session(session, person, created_at, until, otp_time, _methods(amr), client, ended_at, ended_why, last_used)


def host_token_from_row(row: AnyRow) -> HostToken:
    token_hash, session, host = row
    return HostToken(token_hash, session, sys.intern(host))


@lru_cache(maxsize=64)
def _methods(amr: str) -> tuple[str, ...]:
    """There are a handful of them, so 100,000 sessions share these tuples, as their tokens do the names of hosts."""
    return tuple(amr.split())


def is_live(now: float) -> tuple[ColumnElement[bool], ...]:
    return SESSIONS.c.ended_at.is_(None), SESSIONS.c.until > now


def _end(
    connection: Connection, which: ColumnElement[bool], why: str, now: float, at_most: int | None = None
) -> tuple[str, ...]:
    unended = (which, SESSIONS.c.ended_at.is_(None))
    sessions = tuple(connection.execute(select(SESSIONS.c.id).where(*unended).limit(at_most)).scalars())
    changes.record_all(connection, "session", sessions, now)
    these = unended if at_most is None else (SESSIONS.c.id.in_(sessions),)
    connection.execute(update(SESSIONS).where(*these).values(ended_at=now, ended_why=why))
    return sessions
