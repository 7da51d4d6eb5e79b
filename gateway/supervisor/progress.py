"""One thread for work that waits for a disk or for the store, and for how long it has got nowhere.

Law: it gets nowhere while it has work and uses no processor time. So a long work that goes on (a journal of gigabytes,
a lock that is asked for again and again) needs no deadline, and a call that the kernel does not return from has one.
"""

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from gateway.foundation.clock import Clock

MOST_BETWEEN = 2.0
"""Seconds between two looks that count: that the whole process or machine was stopped is not the work's fault."""
Result = TypeVar("Result")


class WatchedThread:
    """`run` and `look` are called on the loop's thread. One piece of work at a time; the others wait."""

    def __init__(self, name: str, clock: Clock) -> None:
        self.name = name
        self._clock = clock
        self._executor = ThreadPoolExecutor(1, name, initializer=self._begin)
        self._processor_clock: int | None = None
        self._waiting = 0
        self._used = self._still = 0.0
        self._looked_at = clock.monotonic()

    def __repr__(self) -> str:
        return f"WatchedThread({self.name}, waiting={self._waiting}, still={self._still:g})"

    async def run(self, work: Callable[[], Result]) -> Result:
        """What `work` returns or raises."""
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, work)
        finally:
            self._waiting -= 1

    def look(self) -> float:
        """To be called each second: for how many its work has got nowhere."""
        now, used = self._clock.monotonic(), self._processor_seconds()
        passed, self._looked_at = min(now - self._looked_at, MOST_BETWEEN), now
        self._still = self._still + passed if self._waiting and used == self._used else 0.0
        self._used = used
        return self._still

    def shutdown(self) -> None:
        self._executor.shutdown()

    def _begin(self) -> None:
        self._processor_clock = time.pthread_getcpuclockid(threading.get_ident())

    def _processor_seconds(self) -> float:
        return 0.0 if self._processor_clock is None else time.clock_gettime(self._processor_clock)
