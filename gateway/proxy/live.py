"""The registry of running exchanges, so that authority that ends takes effect on open streams too.

Law: an exchange is in here from its decision to its end. When an identity or the policy changes, or a decision's own
time is over, it is decided again with the same question as a new request; anything but Allow cuts it. The work is done
in slices, so that ten thousand open streams don't hold up the requests of everybody else.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection
from typing import Protocol

from gateway.policy.reasons import Reason

SLICE_SECONDS = 0.005
"""How long decisions may be made in a row before others get their turn."""

log = logging.getLogger(__name__)


class Running(Protocol):
    """What the registry needs to know of an exchange."""

    @property
    def identity_ids(self) -> frozenset[str]:
        """Ids of the person and the session or token it rests on; empty for nobody."""

    @property
    def holds_until(self) -> float | None:
        """Unix seconds until which its decision holds."""

    def cut(self, reason: str) -> None:
        """End it now."""


class Live:
    """`decide_again(exchange)` returns None if it may go on, else the reason why not."""

    def __init__(self, decide_again: Callable[[Running], Awaitable[str | None]]) -> None:
        self._decide_again = decide_again
        self.running: set[Running] = set()
        """An exchange enters and leaves by itself: two calls less for each request."""

    def all(self) -> list[Running]:
        return list(self.running)

    async def identities_changed(self, ids: Collection[str]) -> None:
        changed = frozenset(ids)
        await self.review([running for running in self.all() if running.identity_ids & changed])

    async def policy_changed(self) -> None:
        await self.review(self.all())

    async def time_passed(self, now: float) -> None:
        await self.review([r for r in self.all() if r.holds_until is not None and r.holds_until <= now])

    async def review(self, exchanges: Collection[Running]) -> None:
        """Decide on these again, and cut those that may not go on."""
        loop = asyncio.get_running_loop()
        slice_end = loop.time() + SLICE_SECONDS
        for exchange in exchanges:
            if exchange not in self.running:
                continue
            try:
                reason = await self._decide_again(exchange)
            except Exception:
                # A fault is never an allow, and the others have to get their turn.
                log.exception("a running exchange could not be decided again")
                reason = Reason.FAULT.value
            # One that ended meanwhile has left its connection to the next.
            if reason is not None and exchange in self.running:
                exchange.cut(reason)
            if loop.time() > slice_end:
                await asyncio.sleep(0)
                slice_end = loop.time() + SLICE_SECONDS
