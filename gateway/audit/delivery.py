"""Checkpoints on their way to a witness: in order, again and again, and never in anybody's way.

Law: the queue is the folder of checkpoints itself, so nothing is lost while a witness is away, and nothing grows in
memory. Signing never waits for a witness. A witness that fails is tried again with growing pauses; the first failure
and the next success are recorded, and each attempt is counted.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Self

from gateway.audit.events import EventName
from gateway.audit.signing import FOLDER, checkpoint_name
from gateway.audit.witness import Contradicted, Sealed, Undelivered, Witness, build
from gateway.config.schema import Settings
from gateway.foundation.clock import Clock
from gateway.metrics import Metrics

ATTEMPT_SECONDS = 10.0
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 300.0
DELIVERED = "gateway_witness_delivered_total"
LAG = "gateway_witness_lag_seconds"

log = logging.getLogger(__name__)
Record = Callable[[EventName, str, str], Awaitable[None]]
"""Of what happened, the witness's name, and why."""


class Delivery:
    """To one witness."""

    def __init__(self, witness: Witness, folder: Path, clock: Clock, metrics: Metrics, record: Record) -> None:
        self.witness = witness
        self._folder, self._clock, self._metrics, self._record = folder, clock, metrics, record
        self._newest = 0
        self._next: int | None = None
        self._waiting: deque[tuple[int, float]] = deque(maxlen=10_000)
        """Numbers, and when they were signed; of more than these the lag is that of the oldest kept."""
        self._pending, self._complete, self._hurried = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._complete.set()
        self._trouble = ""
        for result in ("delivered", "failed", "contradicted"):
            metrics.count(DELIVERED, witness.name, result, by=0)

    def __repr__(self) -> str:
        return f"Delivery({self.witness.name}, {self._next} of {self._newest}, {self._trouble or 'well'})"

    def signed(self, newest: int) -> None:
        if newest > self._newest:
            self._newest = newest
            self._waiting.append((newest, self._clock.monotonic()))
            self._complete.clear()
            self._pending.set()

    def measure(self) -> None:
        lag = self._clock.monotonic() - self._waiting[0][1] if self._waiting else 0.0
        self._metrics.set(LAG, lag, self.witness.name)

    def forget(self) -> None:
        """Whoever isn't delivered to any more has no lag that somebody should be told of."""
        self._waiting.clear()
        self.measure()

    async def run(self) -> None:
        pause = FIRST_PAUSE
        while True:
            await self._pending.wait()
            try:
                async with asyncio.timeout(ATTEMPT_SECONDS):
                    await self._deliver()
            except TimeoutError:
                await self._failed(Undelivered(f"{self.witness.name} does not answer within {ATTEMPT_SECONDS:g} s"))
            except Undelivered as error:
                await self._failed(error)
            else:
                pause = FIRST_PAUSE
                await self._succeeded()
                continue
            await self._rest(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    async def finish(self) -> None:
        """Until the witness has all; at once, whatever pause there was."""
        self._hurried.set()
        await self._complete.wait()

    async def _deliver(self) -> None:
        newest = self._newest
        if self._next is None:
            self._next = await self.witness.begin_at(newest)
        number = self._next if self.witness.keeps_all else newest
        path = self._folder / checkpoint_name(number)
        await self.witness.deliver(await asyncio.to_thread(Sealed.read, path))
        self._next = number + 1
        while self._waiting and self._waiting[0][0] <= number:
            self._waiting.popleft()
        if number >= self._newest:
            self._pending.clear()
            self._complete.set()

    async def _rest(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._hurried.wait()
        except TimeoutError:
            return
        self._hurried.clear()

    async def _failed(self, error: Undelivered) -> None:
        trouble = "contradicted" if isinstance(error, Contradicted) else "failed"
        self._metrics.count(DELIVERED, self.witness.name, trouble)
        if trouble != self._trouble:
            self._trouble = trouble
            log.error("a checkpoint could not be delivered: %s", error, extra={"witness": self.witness.name})
            await self._record(EventName(f"witness:{trouble}"), self.witness.name, str(error))

    async def _succeeded(self) -> None:
        self._metrics.count(DELIVERED, self.witness.name, "delivered")
        if self._trouble:
            self._trouble = ""
            await self._record(EventName.WITNESS_RESTORED, self.witness.name, "")


class Deliveries:
    """To all witnesses. `start` in the loop; a reload makes new ones, which begin where the witness is."""

    def __init__(
        self, witnesses: Sequence[Witness], folder: Path, clock: Clock, metrics: Metrics, record: Record
    ) -> None:
        self._deliveries = [Delivery(each, folder, clock, metrics, record) for each in witnesses]
        self._tasks: list[asyncio.Task[None]] = []

    @classmethod
    def build(cls, settings: Settings, clock: Clock, metrics: Metrics, record: Record) -> Self:
        """To those that the settings name. Raises GatewayError for a certificate or a token that can't be read."""
        state_dir, node = settings.state_dir, settings.node or ""
        witnesses = [build(each, node, state_dir) for each in settings.audit.witnesses]
        return cls(witnesses, state_dir / FOLDER, clock, metrics, record)

    def start(self) -> None:
        self._tasks = [asyncio.get_running_loop().create_task(each.run()) for each in self._deliveries]

    def signed(self, newest: int) -> None:
        for each in self._deliveries:
            each.signed(newest)

    def measure(self) -> None:
        for each in self._deliveries:
            each.measure()

    async def finish(self, seconds: float) -> None:
        """The last checkpoints as well, if that can be done in time; what is left is delivered after the next start."""
        try:
            async with asyncio.timeout(seconds):
                await asyncio.gather(*(each.finish() for each in self._deliveries))
        except TimeoutError:
            log.warning("not all witnesses have the last checkpoint: it is delivered after the next start")
        self.stop()

    def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        for each in self._deliveries:
            each.forget()
