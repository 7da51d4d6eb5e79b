"""Blocking work in a thread of its own, one piece at a time. What hangs in it holds up nothing else: no other work of
the loop, no pool that others need, and not the end of the process."""

import asyncio
import threading
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")


class StillBusy(OSError):
    """The piece before has not come to its end."""


class Apart:
    """Used from one loop."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._is_busy = False

    async def do(self, work: Callable[[], Result]) -> Result:
        """What `work` returns or raises. Whoever stops waiting leaves it to itself."""
        if self._is_busy:
            raise StillBusy(f"the {self._name} does not answer")
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Result] = loop.create_future()

        def run() -> None:
            try:
                result = work()
            except Exception as error:  # noqa: BLE001 - all of them are the caller's.
                settle(done.set_exception, error)
            else:
                settle(done.set_result, result)

        def settle(how: Callable[..., None], value: object) -> None:
            self._is_busy = False
            if not loop.is_closed():
                loop.call_soon_threadsafe(lambda: None if done.done() else how(value))

        self._is_busy = True
        threading.Thread(target=run, name=self._name, daemon=True).start()
        return await done
