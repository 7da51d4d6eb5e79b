"""The keeper's part in a rotation of the key `seal`: every row is sealed anew, and then the older version is retired.

Law: it is retired after a review of the whole store only, when nothing that it has sealed is left; a store that doesn't
add up keeps it, since it needs an operator anyhow. A crash loses nothing: whoever has two versions in hand begins.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from gateway.foundation.clock import Clock
from gateway.foundation.errors import GatewayError
from gateway.foundation.keyring import KeySet
from gateway.store import rotation
from gateway.store.anchor import Anchor
from gateway.store.engine import Store

RETRY_SECONDS = 30.0
"""A review of a store that does not add up costs seconds."""
REST_SECONDS = 5.0
"""Between the last portion and the review: no process has the older version as its current one any more."""

Review = Callable[[], Awaitable[None]]
"""Of the whole store. Raises StoreTampered if nobody may use it."""
Retire = Callable[[str, str, int], Awaitable[None]]
"""Told the ids of the older version and of the current one, and how many contents were sealed anew."""

log = logging.getLogger(__name__)


class SealRotation:
    def __init__(self, store: Store, anchor: Anchor, clock: Clock, review: Review, retire: Retire) -> None:
        self._store, self._anchor, self._clock, self._review, self._retire = store, anchor, clock, review, retire
        self._keys_came = asyncio.Event()
        self._keys_came.set()
        self._count = 0
        """Contents sealed anew since a version was retired, over attempts that failed."""

    def __repr__(self) -> str:
        return f"SealRotation({self._store!r}, due={self._keys_came.is_set()})"

    def keys_came(self) -> None:
        self._keys_came.set()

    async def run(self, keys: Callable[[], KeySet]) -> None:
        """For ever. `keys`: those of now."""
        while True:
            await self._keys_came.wait()
            self._keys_came.clear()
            try:
                if rotation.is_due(keys()):
                    await self._carry_out(keys())
            except (GatewayError, OSError) as error:
                log.error("the store could not be sealed anew: %s", error)
                await asyncio.sleep(RETRY_SECONDS)
                self._keys_came.set()

    async def _carry_out(self, keys: KeySet) -> None:
        older = next(key for key in keys.keys[1:] if key.created < keys.current.created)
        # What is broken is recorded as that before it is declared void; what doesn't add up is not sealed at all.
        await self._review()
        self._count += await asyncio.to_thread(rotation.seal_anew, self._store, self._clock.now)
        await asyncio.sleep(REST_SECONDS)
        self._count += await asyncio.to_thread(rotation.seal_anew, self._store, self._clock.now)
        await self._review()
        await asyncio.to_thread(rotation.require_done, self._store, self._anchor)
        await self._retire(older.id, keys.current.id, self._count)
        count, self._count = self._count, 0
        log.info("the store was sealed anew", extra={"fields": {"count": count, "key": keys.current.id}})
