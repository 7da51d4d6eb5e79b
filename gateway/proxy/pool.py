"""Which idle connection to an upstream is used next. Pure: values in, values out, the caller does the closing.

The connection used last is taken first, so that a pool that was large once shrinks by itself.
"""

from typing import Generic, TypeVar

Connection = TypeVar("Connection")


class Pool(Generic[Connection]):
    """Idle connections of one origin. `limit` bounds idle and busy ones together."""

    def __init__(self, limit: int, idle_seconds: float) -> None:
        self._limit, self._idle_seconds = limit, idle_seconds
        self._idle: dict[Connection, float] = {}
        self._busy = 0

    def __repr__(self) -> str:
        return f"<Pool idle={len(self._idle)} busy={self._busy} limit={self._limit}>"

    @property
    def has_room(self) -> bool:
        """Whether another connection may be opened."""
        return self._busy + len(self._idle) < self._limit

    def take(self) -> Connection | None:
        """The idle connection used last, now busy."""
        if not self._idle:
            return None
        connection, _ = self._idle.popitem()
        self._busy += 1
        return connection

    def opening(self) -> None:
        """A new connection is being opened and counts as busy from here on."""
        self._busy += 1

    def closed(self, connection: Connection | None) -> None:
        """A connection is gone: an idle one, or (also before it was opened) a busy one."""
        if connection is None or self._idle.pop(connection, None) is None:
            self._busy -= 1

    def give_back(self, connection: Connection, now: float) -> None:
        self._busy -= 1
        self._idle[connection] = now

    def outdated(self, now: float) -> list[Connection]:
        """Idle connections that nobody used for a while; the caller closes them."""
        return [connection for connection, since in self._idle.items() if now - since > self._idle_seconds]

    def idle(self) -> list[Connection]:
        return list(self._idle)
