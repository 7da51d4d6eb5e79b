"""Keeps a worker's copy of the store confirmed, by following the change feed.

Law: one poll at a time; it belongs to the follower and not to who asked, so that nobody's giving up takes the answer
from the others; and it confirms the moment before it asked, not the one at which the answer came. After any failure
everything is forgotten and loaded anew: a copy that may have missed a step is worth nothing.
"""

import asyncio
import logging
from collections.abc import Callable

from gateway.foundation.clock import Clock
from gateway.foundation.errors import StoreTampered, StoreUnavailable
from gateway.identity.live_copy import LiveCopy, change_id, load_copy, read_news
from gateway.metrics import Metrics
from gateway.store import thread
from gateway.store.past import SetBack
from gateway.store.reader import Reader

POLL_SECONDS = 0.25
CURRENT_SECONDS = 0.75
SPACING_SECONDS = 0.02
"""Between polls, so that look-ups which ask for one (a flood of ended cookies) cost fifty a second and no more."""
LOAD_DEADLINE_SECONDS = 30.0
TIDY_SECONDS = 60.0

log = logging.getLogger(__name__)


class Follower:
    def __init__(
        self, reader: Reader, clock: Clock, metrics: Metrics, on_change: Callable[[frozenset[str]], None]
    ) -> None:
        self._reader, self._clock, self._metrics, self._on_change = reader, clock, metrics, on_change
        self.copy: LiveCopy | None = None
        self.confirmed_at = float("-inf")
        """On the monotonic clock: the copy was true at this moment."""
        self.changed_since: float | None = None
        """Unix time of the oldest of the changes that `on_change` is told of just now; None where nobody knows."""
        self._is_lost = False
        self._begun = self._confirmed = 0
        self._next_poll_at = self._next_tidy_at = float("-inf")
        self._polling: asyncio.Task[None] | None = None
        self._following: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"Follower({self.copy!r}, polls={self._begun}, lost={self._is_lost})"

    async def start(self) -> None:
        """Load everything, then poll. Raises StoreUnavailable if there is nothing to load from."""
        await self.confirm(LOAD_DEADLINE_SECONDS)
        self._following = asyncio.create_task(self._follow(), name="directory-follow")
        self._following.add_done_callback(_retrieve)

    async def stop(self) -> None:
        tasks = [task for task in (self._following, self._polling) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def is_current(self) -> bool:
        return self._clock.monotonic() - self.confirmed_at < CURRENT_SECONDS

    async def current(self) -> LiveCopy:
        """The copy, confirmed now if it was not lately. Raises StoreUnavailable."""
        if self.copy is None or not self.is_current:
            return await self.confirm()
        return self.copy

    async def confirm(self, deadline: float | None = None) -> LiveCopy:
        """The copy as of a moment after this call. Raises StoreUnavailable."""
        wanted = self._begun + 1
        try:
            async with asyncio.timeout(thread.DEADLINE_SECONDS if deadline is None else deadline):
                while self._confirmed < wanted:
                    await asyncio.shield(self._poll())
        except TimeoutError:
            raise StoreUnavailable("the store did not confirm in time what is known of sessions") from None
        if self.copy is None:
            raise StoreUnavailable("nothing is known of sessions yet")
        return self.copy

    def _poll(self) -> asyncio.Task[None]:
        """The poll that is under way, or a new one."""
        if self._polling is None or self._polling.done():
            self._polling = asyncio.create_task(self._catch_up(), name="directory-poll")
            self._polling.add_done_callback(_retrieve)
        return self._polling

    async def _follow(self) -> None:
        was_confirmed = True
        while True:
            await asyncio.sleep(POLL_SECONDS)
            try:
                await self.confirm()
            except StoreUnavailable as fault:
                if was_confirmed:
                    log.warning("what is known of sessions can't be confirmed: %s", fault)
                was_confirmed = False
            else:
                was_confirmed = True

    async def _catch_up(self) -> None:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(max(0.0, self._next_poll_at - loop.time()))
        self._next_poll_at = loop.time() + SPACING_SECONDS
        self._begun += 1
        self.changed_since = None
        number, began = self._begun, self._clock.monotonic()
        try:
            changed = await self._step()
        except BaseException:
            self._is_lost = True
            raise
        self.confirmed_at, self._confirmed = began, number
        changed |= self._tidy()
        if changed:
            self._on_change(changed)

    async def _step(self) -> frozenset[str]:
        """The ids of what changed since the last one."""
        copy = self.copy
        if copy is None or self._is_lost:
            return await self._load(reopen=copy is not None)
        version, position = copy.version, copy.position
        news = await self._reader.ask(lambda reader: read_news(reader, version, position))
        if news is None or not copy.fits(news):
            return await self._load(reopen=False)
        changed = copy.apply(news)
        self.changed_since = min((each.at for each in news.changes if change_id(each) in changed), default=None)
        return changed

    async def _load(self, *, reopen: bool) -> frozenset[str]:
        now = self._clock.now()

        old = self.copy

        def load(reader: Reader) -> tuple[LiveCopy, frozenset[str]]:
            if reopen:
                reader.reopen()
            fresh = load_copy(reader, now)
            _require_sound(fresh, old)
            # Compared here and not on the event loop, which 100,000 sessions would hold up.
            return fresh, frozenset() if old is None else old.differences(fresh)

        self.copy, changed = await self._reader.ask(load, LOAD_DEADLINE_SECONDS)
        self._is_lost = False
        return changed

    def _tidy(self) -> frozenset[str]:
        """The ids of what ended by time and was forgotten."""
        if self.copy is None:
            return frozenset()
        now, ended = self._clock.monotonic(), frozenset[str]()
        if now >= self._next_tidy_at:
            self._next_tidy_at = now + TIDY_SECONDS
            ended = self.copy.drop_ended(self._clock.now())
        self._metrics.set("gateway_sessions", float(len(self.copy.sessions)))
        return ended


def _require_sound(fresh: LiveCopy, old: LiveCopy | None) -> None:
    """A store that doesn't add up is good for whoever remembers a better time, but for what has changed since. Raises
    StoreTampered."""
    if old is not None and not old.past.leads_to(fresh.past):
        raise SetBack
    if fresh.is_disowned:
        if old is not None:
            # With what it says of the newer one, so that it is not believed when it is put back without that.
            old.past = fresh.past
        raise SetBack
    if fresh.adds_up and (old is not None or not fresh.is_locked):
        return
    if old is None:
        raise StoreTampered("the store was tampered with: see `store check`")
    log.critical("the store was tampered with: %d things count as ended", len(fresh.remember(old)))


def _retrieve(task: asyncio.Task[None]) -> None:
    """A store that failed has been acted on already, whether anybody waits or not; anything else must not be silent."""
    fault = None if task.cancelled() else task.exception()
    if fault is not None and not isinstance(fault, StoreUnavailable):
        log.error("following the store failed", exc_info=fault)
