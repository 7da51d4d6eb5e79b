"""What a worker knows of people, sessions, tokens and tenants: a state of the store, and the steps to the next one.

Law: a copy stands at one position of the change feed, and each step is read in one transaction, so that a revocation
can't fall between a read and the position that it is filed under, however often somebody writes meanwhile.

Law: a step is taken only if what it changed is what the store's tally changed (`store.seals`). Otherwise a notice of a
change was missed, or a row was put back as it once was: everything is loaded anew, and if that doesn't add up either,
what is not as it was remembered counts as ended, whatever is said of it afterwards, until it all adds up.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from gateway.foundation.principal import Credential, Principal
from gateway.store.changes import Change, ChangeKind
from gateway.store.people import Person
from gateway.store.reader import LiveState, Loaded, Reader, seal_id
from gateway.store.seals import MODULUS, Tally
from gateway.store.sessions import LiveSession, Session
from gateway.store.tenants import Tenant
from gateway.store.tokens import ServiceToken

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class News:
    """What changed between two positions. None stands for what ended."""

    version: int
    position: int
    changes: tuple[Change, ...] = ()
    sessions: tuple[tuple[str, LiveSession | None], ...] = ()
    people: tuple[tuple[str, Person | None], ...] = ()
    tokens: tuple[tuple[str, ServiceToken | None], ...] = ()
    tenants: tuple[tuple[str, Tenant | None], ...] = ()
    elements: tuple[tuple[str, int], ...] = ()
    """What each of these adds to the tally now."""
    broken: frozenset[str] = frozenset()
    """Ids of those that are not genuine, and None above."""
    tally: Tally | None = None
    """At this position; None if nobody has written anything since."""


class LiveCopy:
    """Built on the reader's thread, then only touched on the event loop."""

    def __init__(self, state: LiveState, version: int) -> None:
        self.version, self.position, self.past = version, state.position, state.tally.past
        self.adds_up, self.is_locked = state.adds_up, state.tally.is_locked
        self.is_disowned = state.tally.is_disowned
        self.broken = state.broken
        """Ids of what is not genuine, and counts as ended."""
        self._doubtful = frozenset[str]()
        """Ids of what is there, with a seal of ours, and is not what it was remembered to be."""
        self._elements = state.elements
        self._sum = sum(state.elements.values()) % MODULUS
        self._gap = state.tally.sums.live - self._sum
        """By how much the tally differs from all that is here: 0, unless the seals were changed."""
        self.tenants = state.tenants
        self.sessions: dict[str, Session] = {session.id: session for session in state.sessions}
        self.people: dict[str, Person] = {person.id: person for person in state.people}
        self.tokens: dict[str, ServiceToken] = {token.id: token for token in state.tokens}
        self._session_of: dict[bytes, str] = {token.token_hash: token.session for token in state.host_tokens}
        self._token_of: dict[bytes, str] = {token.token_hash: token.id for token in state.tokens}
        self._hashes_of: dict[str, tuple[bytes, ...]] = {}
        for host_token in state.host_tokens:
            self._hashes_of[host_token.session] = (*self._hashes_of.get(host_token.session, ()), host_token.token_hash)

    def __repr__(self) -> str:
        return f"LiveCopy(position={self.position}, sessions={len(self.sessions)}, people={len(self.people)})"

    def session_of(self, token_hash: bytes) -> str | None:
        """Id of the session that this host token stands for. Its ends by time are for the caller to see."""
        return self._session_of.get(token_hash)

    def token_of(self, token_hash: bytes) -> str | None:
        """Id of the service token."""
        return self._token_of.get(token_hash)

    def principal_of(self, session: Session) -> Principal | None:
        """None if the person is not there any more, or disabled."""
        person = self.people.get(session.person)
        if person is None or not person.is_active:
            return None
        return Principal(
            id=person.id,
            name=person.name,
            home=person.home,
            grants=person.grants,
            credential=Credential("session", session.id),
            session=session.id,
            amr=session.amr,
            auth_time=session.created_at,
            otp_time=session.otp_time,
            until=session.until,
            version=self.position,
        )

    def principal_of_token(self, token: ServiceToken) -> Principal:
        return Principal(
            id=token.account,
            name=token.name,
            home="-",
            grants=token.grants,
            credential=Credential("token", token.id),
            until=token.expires_at,
            applications=token.applications,
            version=self.position,
        )

    def fits(self, news: News) -> bool:
        """Whether the store's tally has changed by what the news say, and not back."""
        if news.tally is None:
            return True
        changed = sum(element - self._elements.get(key, 0) for key, element in news.elements)
        adds_up = (self._sum + changed + self._gap - news.tally.sums.live) % MODULUS == 0
        return adds_up and self.past.leads_to(news.tally.past) and not news.tally.is_disowned

    def remember(self, older: "LiveCopy") -> frozenset[str]:
        """This copy was loaded and doesn't add up: what is not as it was in the older one counts as ended. The ids."""
        keys = self._elements.keys() | older._elements.keys()
        changed = frozenset(key for key in keys if self._elements.get(key) != older._elements.get(key))
        # The older one remembers those, too, as they were found, and not as they should be.
        self._doubtful = doubtful = changed | older._doubtful
        for key in doubtful:
            self._put_session(key, None)
            self._put_token(key, None)
            _put(self.people, key, None)
        self.tenants = frozenset(name for name in self.tenants if tenant_id(name) not in doubtful)
        self.broken |= doubtful
        return doubtful

    def apply(self, news: News) -> frozenset[str]:
        """Step to the position of the news. The ids of what ended or changed: what was sealed anew did not."""
        sessions, people = self._undoubted(news.sessions), self._undoubted(news.people)
        tokens, tenants = self._undoubted(news.tokens), news.tenants
        changed = {*_changed(self.people, people), *_changed(self.tokens, tokens)}
        changed |= {session for session, live in sessions if not self._is_same(session, live)}
        changed |= {tenant_id(name) for name, tenant in tenants if tenant is None or name not in self.tenants}
        for session, live in sessions:
            self._put_session(session, live)
        for person, found in people:
            _put(self.people, person, found)
        for token, service in tokens:
            self._put_token(token, service)
        for name, tenant in tenants:
            is_over = tenant is None or tenant_id(name) in self._doubtful
            self.tenants = self.tenants - {name} if is_over else self.tenants | {name}
        self._take_elements(news.elements)
        self.broken = self.broken - {key for key, _ in news.elements} | news.broken | self._doubtful
        self.version, self.position = news.version, news.position
        self.past = self.past if news.tally is None else news.tally.past
        return frozenset(changed)

    def differences(self, newer: "LiveCopy") -> frozenset[str]:
        """The ids of all that is not the same in a copy that was loaded from nothing."""
        tenants = {tenant_id(name) for name in self.tenants ^ newer.tenants}
        return frozenset(
            tenants
            | _unequal(self.people, newer.people)
            | _unequal(self.tokens, newer.tokens)
            | _unequal(_without_use(self.sessions), _without_use(newer.sessions))
            | _unequal(self._host_tokens(), newer._host_tokens())
        )

    def drop_ended(self, now: float) -> frozenset[str]:
        """Forget sessions and tokens that ended by time, which no step of the feed tells of. Their ids."""
        sessions = [session.id for session in self.sessions.values() if session.until <= now]
        tokens = [t.id for t in self.tokens.values() if t.expires_at is not None and t.expires_at <= now]
        for session in sessions:
            self._put_session(session, None)
        for token in tokens:
            self._put_token(token, None)
        return frozenset((*sessions, *tokens))

    def _undoubted(self, found: tuple[tuple[str, Value | None], ...]) -> tuple[tuple[str, Value | None], ...]:
        return tuple((key, None if key in self._doubtful else value) for key, value in found)

    def _take_elements(self, elements: tuple[tuple[str, int], ...]) -> None:
        for key, element in elements:
            self._sum += element - self._elements.pop(key, 0)
            if element:
                self._elements[key] = element
        self._sum %= MODULUS

    def _is_same(self, session: str, live: LiveSession | None) -> bool:
        known = self.sessions.get(session)
        if known is None or live is None:
            return False
        hashes = {token.token_hash for token in live.host_tokens}
        used = live.session.last_used
        return known._replace(last_used=used) == live.session and hashes == set(self._hashes_of.get(session, ()))

    def _host_tokens(self) -> dict[str, frozenset[bytes]]:
        return {session: frozenset(hashes) for session, hashes in self._hashes_of.items()}

    def _put_session(self, session: str, live: LiveSession | None) -> None:
        for token_hash in self._hashes_of.pop(session, ()):
            del self._session_of[token_hash]
        _put(self.sessions, session, None if live is None else live.session)
        if live is not None:
            self._hashes_of[session] = tuple(token.token_hash for token in live.host_tokens)
            self._session_of.update((token.token_hash, session) for token in live.host_tokens)

    def _put_token(self, token: str, service: ServiceToken | None) -> None:
        old = self.tokens.get(token)
        if old is not None:
            del self._token_of[old.token_hash]
        _put(self.tokens, token, service)
        if service is not None:
            self._token_of[service.token_hash] = token


def load_copy(reader: Reader, now: float) -> LiveCopy:
    """Everything, in one transaction."""
    with reader.one_moment():
        return LiveCopy(reader.load_all_live(now), reader.data_version())


def read_news(reader: Reader, version: int, position: int) -> News | None:
    """What happened since; None if the feed does not reach back that far, and only `load_copy` helps."""
    with reader.one_moment():
        seen = reader.data_version()
        if seen == version:
            return News(version, position)
        feed = reader.changes_since(position)
        return None if feed.truncated else _load(reader, News(seen, feed.position, feed.changes))


def change_id(change: Change) -> str:
    return tenant_id(change.key) if change.kind == "tenant" else change.key


def tenant_id(name: str) -> str:
    return seal_id("tenant", name)


def _load(reader: Reader, news: News) -> News:
    """With the present values of all that changed."""
    sessions, people = _load_kind(reader, news, "session"), _load_kind(reader, news, "person")
    tokens, tenants = _load_kind(reader, news, "token"), _load_kind(reader, news, "tenant")
    found: list[tuple[str, Loaded[Any]]] = [
        *sessions,
        *people,
        *tokens,
        *((tenant_id(key), each) for key, each in tenants),
    ]
    return replace(
        news,
        sessions=tuple((key, each.value) for key, each in sessions),
        people=tuple((key, each.value) for key, each in people),
        tokens=tuple((key, each.value) for key, each in tokens),
        tenants=tuple((key, each.value) for key, each in tenants),
        elements=tuple((key, each.element) for key, each in found),
        broken=frozenset(key for key, each in found if each.is_broken),
        tally=reader.tally(),
    )


def _load_kind(reader: Reader, news: News, kind: ChangeKind) -> list[tuple[str, Loaded[Any]]]:
    keys = list(dict.fromkeys(change.key for change in news.changes if change.kind == kind))
    return list(reader.load(kind, keys).items()) if keys else []


def _put(values: dict[str, Value], key: str, value: Value | None) -> None:
    if value is None:
        values.pop(key, None)
    else:
        values[key] = value


def _changed(values: dict[str, Value], news: tuple[tuple[str, Value | None], ...]) -> Iterator[str]:
    return (key for key, value in news if value is None or values.get(key) != value)


def _unequal(old: dict[str, Value], new: dict[str, Value]) -> set[str]:
    return {key for key in old.keys() | new.keys() if old.get(key) != new.get(key)}


def _without_use(sessions: dict[str, Session]) -> dict[str, Session]:
    """When a session was last used changes all the time and means nothing here."""
    return {key: session._replace(last_used=0.0) for key, session in sessions.items()}
