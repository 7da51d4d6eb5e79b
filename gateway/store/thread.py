"""One thread for blocking work, with a deadline for whoever waits.

Law: nobody waits longer than their deadline; no more than `CAPACITY` jobs wait; a job whose caller gave up is not
begun, and one that was begun can see it (`is_abandoned`) and leave its work undone. The thread itself may be stuck in
the kernel for as long as a disk is: it is a daemon, so that even the end of the process does not wait for it.
"""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import Full, Queue
from typing import TypeVar

from gateway.foundation.errors import StoreUnavailable

Result = TypeVar("Result")
IsAbandoned = Callable[[], bool]

DEADLINE_SECONDS = 0.5
CAPACITY = 128
_CLOSING_SECONDS = 1.0


class JobThread:
    def __init__(self, name: str) -> None:
        self._jobs: Queue[Callable[[], None] | None] = Queue(CAPACITY)
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._starting = threading.Lock()
        self._started = self._closed = False

    def __repr__(self) -> str:
        return f"JobThread({self._thread.name}, waiting={self._jobs.qsize()}, closed={self._closed})"

    async def ask(self, job: Callable[[IsAbandoned], Result], deadline: float | None = None) -> Result:
        """What `job` returns or raises; StoreUnavailable after `deadline` seconds, or at once if too many wait."""
        deadline = DEADLINE_SECONDS if deadline is None else deadline
        self._start()
        future: Future[Result] = Future()
        abandoned = threading.Event()

        def perform() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(job(abandoned.is_set))
            except BaseException as fault:  # noqa: BLE001 - it is raised again, where the caller waits.
                future.set_exception(fault)

        try:
            self._jobs.put_nowait(perform)
        except Full:
            raise StoreUnavailable(f"the store is busy: {CAPACITY} requests wait for it") from None
        try:
            return await asyncio.wait_for(asyncio.wrap_future(future), deadline)
        except TimeoutError:
            raise StoreUnavailable(f"the store did not answer within {deadline:g} s") from None
        finally:
            abandoned.set()

    def close(self) -> None:
        """Finish what waits, if it finishes soon."""
        with self._starting:
            self._closed = True
            if not self._started:
                return
        try:
            self._jobs.put_nowait(None)
        except Full:
            return
        self._thread.join(_CLOSING_SECONDS)

    def _start(self) -> None:
        with self._starting:
            if self._closed:
                raise StoreUnavailable("the store is closed")
            if not self._started:
                self._thread.start()
                self._started = True

    def _work(self) -> None:
        while (perform := self._jobs.get()) is not None:
            perform()
