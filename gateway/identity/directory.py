"""The workers' live copy of who holds which credential. The hottest look-up of the gateway.

Law:
- An answer from memory is given only while the copy is current (confirmed less than 750 ms ago). Otherwise the store is
  asked first, and without a store the answer is `StoreUnavailable`, never None.
- "Unknown" is said only after a poll that began later than the question: a session can be younger than the last poll.
- The same credential answers with the same `Principal` object until something about it changes.
"""

from collections.abc import Callable
from typing import TypeVar

from gateway.foundation.clock import Clock
from gateway.foundation.keyring import KeySet
from gateway.foundation.principal import Principal
from gateway.identity.credentials import service_token_hash, session_label, token_hash
from gateway.identity.follower import CURRENT_SECONDS, Follower
from gateway.identity.live_copy import LiveCopy
from gateway.metrics import Metrics
from gateway.store.reader import Reader
from gateway.store.tokens import ServiceToken

Key = TypeVar("Key")
Value = TypeVar("Value")

RECORD_SECONDS = 60.0
"""A session's last use is written at most this often."""
MOST_REMEMBERED = 50_000
"""Tokens known to be good, or to be unknown; beyond it they are forgotten and verified anew."""
_ASK_AGAIN_SECONDS = 1.0


class _Held:
    """A session as look-ups use it. Void for ever, `principal` None, once something about the session changed."""

    __slots__ = ("asked_at", "last_used", "principal", "record_at", "until")

    def __init__(self, last_used: float, record_at: float) -> None:
        self.principal: Principal | None = None
        self.until = 0.0
        self.last_used, self.record_at = last_used, record_at
        self.asked_at = float("-inf")


class Directory:
    def __init__(
        self, reader: Reader, session_keys: KeySet, clock: Clock, metrics: Metrics, *, idle_seconds: float
    ) -> None:
        self._reader, self._clock = reader, clock
        self.session_keys = session_keys
        """A rotation brings others."""
        self.idle_seconds = idle_seconds
        """A reload may change it."""
        self._follower = Follower(reader, clock, metrics, self._changed)
        self.on_change: Callable[[frozenset[str]], None] = lambda _: None
        """Called on the event loop with the ids of people, sessions and tokens that changed, and `tenant:<name>`."""
        self._held: dict[str, _Held] = {}
        self._verified: dict[tuple[str, str], _Held] = {}
        self._verified_services: dict[str, Principal] = {}
        self._services: dict[str, tuple[ServiceToken, Principal]] = {}
        self._unknown: set[bytes] = set()
        self._used: set[str] = set()

    def __repr__(self) -> str:
        return f"Directory({self._follower!r}, held={len(self._held)})"

    async def start(self) -> None:
        """Load everything, then follow the feed. Raises StoreUnavailable if there is no store to load from."""
        await self._follower.start()

    async def stop(self) -> None:
        await self._follower.stop()

    async def confirm(self) -> None:
        """Take every change that was committed before this call. Raises StoreUnavailable."""
        await self._follower.confirm()

    @property
    def is_current(self) -> bool:
        return self._follower.is_current

    @property
    def position(self) -> int:
        """Of the change feed; -1 before the first load."""
        copy = self._follower.copy
        return -1 if copy is None else copy.position

    @property
    def broken(self) -> frozenset[str]:
        """Ids of people, sessions and tokens, and `tenant:<name>`, that are refused because somebody wrote to them."""
        copy = self._follower.copy
        return frozenset() if copy is None else copy.broken

    def knows_tenant(self, name: str) -> bool:
        copy = self._follower.copy
        return copy is not None and name in copy.tenants

    def live_sessions(self) -> int:
        copy = self._follower.copy
        return 0 if copy is None else len(copy.sessions)

    def session_at_once(self, token: str, host: str) -> Principal | None:
        """As `session`, while the copy is current and the token was seen before; None: ask `session`."""
        held = self._verified.get((token, host))
        if held is not None and self._clock.monotonic() - self._follower.confirmed_at < CURRENT_SECONDS:
            principal, now = held.principal, self._clock.now()
            if principal is not None and now < held.until and now - held.last_used < self.idle_seconds:
                held.last_used = now
                if now >= held.record_at:
                    self._note_use(principal.session, held)
                return principal
        return None

    async def session(self, token: str, host: str) -> Principal | None:
        """Who holds this session cookie on this host; None: nobody, or no longer. Counts as a use of the session.
        Raises StoreUnavailable."""
        return self.session_at_once(token, host) or await self._find_session(token, host)

    async def service(self, token: str) -> Principal | None:
        """Who holds this service token; None: nobody, or no longer. Raises StoreUnavailable."""
        principal = self._verified_services.get(token)
        if principal is None or not self._follower.is_current:
            principal = await self._find_service(token)
        return self._unless_over(principal)

    def last_known_service(self, token: str) -> Principal | None:
        """A service token as it was last known, however long ago: for reading metrics while the store is away."""
        copy, hashed = self._follower.copy, service_token_hash(self.session_keys, token)
        if copy is None or hashed is None:
            return None
        return self._unless_over(self._service_of(copy, copy.token_of(hashed)))

    async def current(self, principal: Principal) -> Principal | None:
        """The same credential as it is now, for deciding a running exchange again; None if it has ended.

        Not a use of the session: an open stream alone does not keep it alive. Raises StoreUnavailable.
        """
        if principal.is_anonymous:
            return principal
        copy = await self._follower.current()
        if principal.is_service:
            return self._unless_over(self._service_of(copy, principal.credential.id))
        held = self._hold(copy, principal.session)
        found = None if held is None else self._unless_over(held.principal)
        if held is None or found is None or await self._is_idle(held):
            return None
        return found if held.principal is found else await self.current(principal)

    def idle_at(self, principal: Principal) -> float | None:
        """Unix seconds at which this session ends unless it is used again; None for what has no idle time."""
        held = self._held.get(principal.session)
        return None if held is None else held.last_used + self.idle_seconds

    def drain_uses(self) -> dict[str, float]:
        """Session id → its last use, of those that are due to be recorded: each at most once a minute."""
        used, self._used = self._used, set()
        return {session: self._held[session].last_used for session in used if session in self._held}

    async def _find_session(self, token: str, host: str) -> Principal | None:
        hashed = token_hash(self.session_keys, session_label(host), token)
        if hashed is None:
            return None
        session, copy = await self._find(hashed, LiveCopy.session_of)
        held = None if session is None else self._hold(copy, session)
        principal = None if held is None else self._unless_over(held.principal)
        if held is None or principal is None or await self._is_idle(held):
            return None
        if held.principal is not principal:
            # It changed while the store was asked about its last use.
            return await self._find_session(token, host)
        _remember(self._verified, (token, host), held)
        held.last_used = max(held.last_used, self._clock.now())
        if held.last_used >= held.record_at:
            self._note_use(principal.session, held)
        return principal

    async def _find_service(self, token: str) -> Principal | None:
        hashed = service_token_hash(self.session_keys, token)
        if hashed is None:
            return None
        found, copy = await self._find(hashed, LiveCopy.token_of)
        principal = self._service_of(copy, found)
        if principal is not None:
            _remember(self._verified_services, token, principal)
        return principal

    async def _find(self, hashed: bytes, owner: Callable[[LiveCopy, bytes], str | None]) -> tuple[str | None, LiveCopy]:
        """Whose token this is, by a current copy, or if that one does not know it, by one younger than the question."""
        copy = await self._follower.current()
        found = owner(copy, hashed)
        if found is None and hashed not in self._unknown:
            copy = await self._follower.confirm()
            found = owner(copy, hashed)
            if found is None:
                if len(self._unknown) >= MOST_REMEMBERED:
                    self._unknown.clear()
                self._unknown.add(hashed)
        return found, copy

    def _hold(self, copy: LiveCopy, session: str) -> _Held | None:
        held = self._held.get(session)
        if held is not None and held.principal is not None:
            return held
        row = copy.sessions.get(session)
        if row is None:
            return None
        if held is None:
            held = self._held[session] = _Held(row.last_used, row.last_used + RECORD_SECONDS)
        held.principal, held.until = copy.principal_of(row), row.until
        return held

    async def _is_idle(self, held: _Held) -> bool:
        """Before a session is said to be idle, the store is asked: another worker may have seen it meanwhile."""
        now = self._clock.now()
        if held.principal is not None and now - held.last_used >= self.idle_seconds:
            session = held.principal.session
            if now - held.asked_at >= _ASK_AGAIN_SECONDS:
                recorded = await self._reader.ask(lambda reader: reader.last_used(session))
                held.asked_at, held.last_used = now, max(held.last_used, recorded or 0.0)
        return now - held.last_used >= self.idle_seconds

    def _service_of(self, copy: LiveCopy, token: str | None) -> Principal | None:
        row = None if token is None else copy.tokens.get(token)
        if row is None:
            return None
        known = self._services.get(row.id)
        if known is None or known[0] != row:
            known = self._services[row.id] = (row, copy.principal_of_token(row))
        return known[1]

    def _unless_over(self, principal: Principal | None) -> Principal | None:
        if principal is None or principal.until is None:
            return principal
        return principal if self._clock.now() < principal.until else None

    def _note_use(self, session: str, held: _Held) -> None:
        held.record_at = held.last_used + RECORD_SECONDS
        self._used.add(session)

    @property
    def changed_since(self) -> float | None:
        """In `on_change`: since when it is so, in unix time; None if nobody knows."""
        return self._follower.changed_since

    def _changed(self, ids: frozenset[str]) -> None:
        """Void all that rested on these, before anybody can ask again."""
        copy = self._follower.copy
        stale = [s for s, held in self._held.items() if s in ids or (held.principal and held.principal.id in ids)]
        for session in stale:
            old = self._held.pop(session)
            if copy is not None and session in copy.sessions:
                self._held[session] = _Held(old.last_used, old.record_at)
            # Look-ups that know the old object by a token (one that was rotated away, perhaps) find it void for ever.
            old.principal = None
        for token in ids:
            self._services.pop(token, None)
        self._verified_services.clear()
        self._unknown.clear()
        self.on_change(ids)


def _remember(known: dict[Key, Value], key: Key, value: Value) -> None:
    if len(known) >= MOST_REMEMBERED:
        known.clear()
    known[key] = value
