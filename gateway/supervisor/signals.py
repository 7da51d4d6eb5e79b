"""Signals to the supervisor: each only takes a note, and wakes the one `select`.

Law: none is lost when the supervisor execs itself. What came before is dealt with by the one who got it, what comes
meanwhile waits for the successor.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress

STOP = frozenset({signal.SIGTERM, signal.SIGINT})
RELOAD, RESTART = signal.SIGHUP, signal.SIGUSR2
ALL = frozenset({*STOP, RELOAD, RESTART, signal.SIGCHLD})
"""By default each of them but the last would end the process."""


class Signals:
    def __init__(self) -> None:
        self._noted: set[int] = set()
        self.woken, self._wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        """Readable when one has come."""

    def catch(self) -> None:
        """From now on, those that waited for us included."""
        signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        for number in ALL:
            signal.signal(number, self._note)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ALL)

    def take(self) -> set[int]:
        """Those that have come since."""
        noted, self._noted = self._noted, set()
        return noted

    def hear(self) -> None:
        with suppress(BlockingIOError):
            os.read(self.woken, 512)

    @contextmanager
    def held(self) -> Iterator[bool]:
        """Whether one has come that nobody has taken yet; others wait until the end of this."""
        signal.pthread_sigmask(signal.SIG_BLOCK, ALL)
        try:
            yield bool(self._noted)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, ALL)

    def close(self) -> None:
        for descriptor in (self.woken, self._wake):
            os.close(descriptor)

    def _note(self, number: int, _frame: object) -> None:
        if number != signal.SIGCHLD:
            self._noted.add(number)
