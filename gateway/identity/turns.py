"""Turns at work that is dear: few run at once, a bounded number wait, and strangers wait behind everybody else.

Law: a place is taken before anything is looked up for its holder, so that a flood costs no more than its places,
neither at the work nor at the store before it. Strangers have places of their own, and one client only a part of them:
however many they are, whoever is known waits for one piece of their work at most. Nor does who is known take all places
of the others who are: each account has a few, and each of its browsers fewer.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import TypeVar

from gateway.foundation.errors import Overloaded, Unavailable

Value = TypeVar("Value")
_KNOWN, _STRANGERS = "known", "strangers"


@dataclass(frozen=True, slots=True)
class Bounds:
    """How many run at once, how many places there are, and how long a turn is waited for."""

    running: int = 2
    known: int = 64
    one_account: int = 4
    one_browser: int = 2
    """Of the known ones' places."""
    strangers: int = 32
    one_client: int = 16
    """Of the strangers' places: enough for a class behind one address, and never all of them."""
    deadline_seconds: float = 5.0


class Turns:
    """Threads that take whoever is known first, and among equals who came first. Any thread or loop may call."""

    def __init__(self, bounds: Bounds, name: str) -> None:
        self._bounds = bounds
        self._threads = ThreadPoolExecutor(bounds.running, thread_name_prefix=name)
        self._known: deque[Callable[[], None]] = deque()
        self._strangers: deque[Callable[[], None]] = deque()
        self._places: Counter[str] = Counter()
        """By whose share they are of."""
        self._lock = Lock()

    def __repr__(self) -> str:
        return f"<Turns places={self._taken()} waiting={len(self._known)}+{len(self._strangers)}>"

    def known_place(self, account: str, browser: str) -> AbstractContextManager[None]:
        """`browser`: its proof that it is known, by whatever tells it from the account's others. Raises Overloaded."""
        most = self._bounds
        shares = {
            _KNOWN: most.known,
            f"account {account}": most.one_account,
            f"browser {browser}": most.one_browser,
        }
        return self._place(shares)

    def stranger_place(self, client: str) -> AbstractContextManager[None]:
        """`client` is what counts as one. Raises Overloaded."""
        return self._place({_STRANGERS: self._bounds.strangers, f"client {client}": self._bounds.one_client})

    async def take(self, work: Callable[[], Value], *, is_stranger: bool) -> Value:
        """What `work` returns or raises, for the holder of a place. Raises Unavailable after the deadline; work that
        nobody waits for any more is not begun."""
        future: Future[Value] = Future()

        def perform() -> None:
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(work())
                except BaseException as fault:  # noqa: BLE001 - it is raised again, where the caller waits.
                    future.set_exception(fault)

        with self._lock:
            (self._strangers if is_stranger else self._known).append(perform)
        # A thread is asked for a turn, not for this one: whose it is shows when the thread is free.
        self._threads.submit(self._next)
        try:
            return await asyncio.wait_for(asyncio.wrap_future(future), self._bounds.deadline_seconds)
        except TimeoutError as error:
            raise Unavailable("the password was not checked in time") from error

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    @contextmanager
    def _place(self, shares: Mapping[str, int]) -> Iterator[None]:
        """`shares`: how many places there are of each."""
        with self._lock:
            if any(self._places[share] >= most for share, most in shares.items()):
                raise Overloaded("too many passwords are being checked at once")
            self._places.update(shares.keys())
        try:
            yield
        finally:
            with self._lock:
                self._places -= Counter(shares.keys())

    def _taken(self) -> int:
        return self._places[_KNOWN] + self._places[_STRANGERS]

    def _next(self) -> None:
        with self._lock:
            perform = (self._known or self._strangers).popleft()
        perform()
