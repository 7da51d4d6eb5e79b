"""All servers of one run, before the same application, started when they are needed."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.bench.certificate import certificate
from tests.bench.load import check
from tests.bench.nginx import start_application
from tests.bench.rows import starts
from tests.bench.running import Running


class Servers:
    def __init__(self, folder: Path, sessions: int) -> None:
        self._folder, self._starts = folder, starts(sessions)
        self._tls = certificate(folder)
        self._application = start_application(folder / "application")
        self._running: dict[str, Running] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        for server in (*self._running.values(), self._application):
            server.stop()

    def __getitem__(self, name: str) -> Running:
        self.start([name])
        return self._running[name]

    def start(self, names: Iterable[str]) -> None:
        """Those that don't run yet, at once, each proven to be what it should be. Raises CannotMeasure."""
        with ThreadPoolExecutor() as threads:
            list(threads.map(self._start, [name for name in dict.fromkeys(names) if name not in self._running]))

    def _start(self, name: str) -> None:
        folder = self._folder / f"{list(self._starts).index(name)}"
        self._running[name] = self._starts[name](folder, self._application.port, self._tls)
        check(self._running[name])

    def stop(self, name: str) -> None:
        self._running.pop(name).stop()
