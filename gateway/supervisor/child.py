"""What every child has in common: it is told what to be over its channel, keeps a chain of the journal, counts, reloads
in two steps, and drains when it is told to, or when the master is gone.
"""

import asyncio
import logging
import os
import signal
import socket
import ssl
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, ClassVar, NoReturn

from aiohttp import web

from gateway.audit.events import EventName, event
from gateway.audit.files import SyncFailed
from gateway.audit.journal import Journal, Limits
from gateway.config.schema import Settings
from gateway.foundation import logs
from gateway.foundation.clock import Clock, SystemClock
from gateway.foundation.entropy import Entropy, SystemEntropy
from gateway.foundation.errors import GatewayError, JournalUnavailable, StoreTampered, Unavailable
from gateway.foundation.keyring import Key, KeySet
from gateway.foundation.process import confine_writes, gain_nothing, hide_memory
from gateway.metrics import Metrics
from gateway.proxy.tls import Certificate
from gateway.supervisor.build import Configuration, from_message
from gateway.supervisor.channel import EXIT_TAMPERED, ChannelClosed, ChildEnd, Message

OPENING_SECONDS = 15.0
SHUTDOWN_SECONDS = 5.0
EXIT_FATAL = 70
"""EX_SOFTWARE: the journal could not be synced, and what it holds is not known any more."""

log = logging.getLogger(__name__)


class Child(ABC):
    """One process. A subclass builds its parts in `begin` and takes them down in `end`."""

    role: ClassVar[str]
    writes: ClassVar[tuple[str, ...]] = ()
    """Folders of `state_dir` that it writes, beside its own chain of the journal."""
    floor_bytes: ClassVar[int] = 0
    """Free on the journal's disk, below which it takes no more work that has to be recorded."""

    def __init__(self, channel: ChildEnd, start: Message) -> None:
        self.channel = channel
        self.seat: str = start["seat"]
        self.descriptors: dict[str, int] = start["descriptors"]
        self.configuration: Configuration = from_message(start)
        self.version: int = start["version"]
        self.clock: Clock = SystemClock()
        self.entropy: Entropy = SystemEntropy()
        self.metrics = Metrics()
        self.given = start
        self._prepared: tuple[int, Configuration, Message] | None = None
        self._draining: asyncio.Task[None] | None = None
        self.committed_at: float | None = None
        """When the supervisor brought the configuration into force, in unix time."""
        self.is_succeeded = False
        """Another is ready in our seat: nobody waits for our end."""
        self._begun = asyncio.Event()
        self._ended = asyncio.Event()

    @property
    def settings(self) -> Settings:
        return self.configuration.settings

    def keys(self, purpose: str) -> KeySet:
        return keyset(self.given, purpose)

    # What a subclass is.

    @abstractmethod
    async def begin(self) -> None:
        """Build everything; when it returns, the process is ready."""

    @abstractmethod
    async def end(self) -> None:
        """Finish what runs, within the drain's deadline; the journal is closed afterwards."""

    async def after_journal(self) -> None:  # noqa: B027 - only the one who signs journals has something left to do.
        """Its own journal is closed: the very last thing."""

    async def open_journal(self, journal: Journal) -> None:
        """Have the journal's opening put into a checkpoint: the keeper does that, who may be starting just now."""
        deadline = self.clock.monotonic() + OPENING_SECONDS
        while True:
            try:
                await self.channel.ask("keeper", "open-chain", opening=journal.opening.as_json())
                return
            except Unavailable:
                if self.clock.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.2)

    async def check(  # noqa: B027 - a role without anything to check is fine.
        self, configuration: Configuration, message: Message
    ) -> None:
        """First step of a reload: whatever can fail. Raises GatewayError."""

    async def adopt(self, message: Message) -> None:  # noqa: B027 - as above.
        """Second step: `self.configuration` is the new one; nothing here may fail."""

    async def answer(self, what: str, arguments: Message) -> Any:
        """What another process asks. Raises GatewayError."""
        del arguments
        raise GatewayError(f"the {self.role} does not know {what!r}")

    async def every_second(self) -> None:  # noqa: B027 - as above.
        """Small regular work."""

    # What they share.

    async def serve(self, confine: Callable[[Iterable[Path]], bool] = lambda _: False) -> None:
        """`confine` keeps this process from writing elsewhere than in these folders, and says whether it could."""
        self.journal = self._make_journal()
        listening = asyncio.create_task(self.channel.run(self.answer, self._take))
        try:
            self.journal.prepare()
            is_confined = confine(self.own_folders())
            await self.open_journal(self.journal)
            self.journal.start()
            started = event(EventName.PROCESS_START, self.clock.now(), process=self.seat, pid=os.getpid())
            await self.journal.commit(started)
            await self.begin()
        except (GatewayError, OSError) as error:
            log.critical("can't start: %s", error)
            raise SystemExit(EXIT_TAMPERED if isinstance(error, StoreTampered) else 1) from error
        self._begun.set()
        ticking = [asyncio.create_task(self._tick()), asyncio.create_task(self._work_regularly())]
        self.channel.send("ready", confined=is_confined)
        listening.add_done_callback(lambda _: self.drain())
        await self._ended.wait()
        for task in ticking:
            task.cancel()
        self.channel.send("totals", totals=self.metrics.totals())
        await self.channel.flush()

    def die(self, fault: SyncFailed) -> NoReturn:
        """A failed sync is never retried: what the kernel dropped it will not write again, and says so only once."""
        log.critical("the journal could not be synced: %s", fault)
        os._exit(EXIT_FATAL)

    def drain(self) -> None:
        """Asked for in the middle of a start, it begins after it: what is half built can't be taken down."""
        if self._draining is None:
            self._draining = asyncio.get_running_loop().create_task(self._drain())

    async def _drain(self) -> None:
        await self._begun.wait()
        try:
            try:
                await self.end()
            except Unavailable as error:
                # Whoever is away meanwhile: the end of our journal is worth more.
                log.warning("%s", error)
            self.journal.append(event(EventName.PROCESS_STOP, self.clock.now(), process=self.seat, pid=os.getpid()))
            await self.journal.close()
            await self.after_journal()
        except JournalUnavailable as error:
            log.error("the journal could not be closed: %s", error)
        finally:
            self._ended.set()

    def _make_journal(self) -> Journal:
        return Journal(
            self.settings.state_dir,
            self.seat,
            self.settings.node or "",
            clock=self.clock,
            entropy=self.entropy,
            limits=Limits(floor_bytes=self.floor_bytes),
            on_fatal=self.die,
            observe_commit=self.metrics.histogram("gateway_audit_commit_seconds"),
        )

    def own_folders(self) -> list[Path]:
        """All that it may write."""
        return [self.journal.folder, *(self.settings.state_dir / name for name in self.writes)]

    async def _take(self, message: Message) -> None:
        match message["kind"]:
            case "drain":
                self.is_succeeded = bool(message.get("succeeded"))
                self.drain()
            case "prepare":
                await self._prepare(message)
            case "commit":
                self.committed_at = message.get("at")
                await self._commit(message["version"])
            case "abandon":
                self._prepared = None
            case _:
                await self.take(message)

    async def take(self, message: Message) -> None:
        """A message of this role's own."""
        log.error("an unknown message", extra={"kind": message["kind"]})

    async def _prepare(self, message: Message) -> None:
        try:
            configuration = from_message(message)
            await self.check(configuration, message)
        except GatewayError as error:
            self.channel.send("refused", version=message["version"], why=f"{self.seat}: {error}")
            return
        self._prepared = (message["version"], configuration, message)
        self.channel.send("prepared", version=message["version"])

    async def _commit(self, version: int) -> None:
        if self._prepared is None or self._prepared[0] != version:
            return
        _, self.configuration, message = self._prepared
        self.version, self.given, self._prepared = version, {**self.given, **message}, None
        logging.getLogger().setLevel(logs.level(self.settings.log_level))
        await self.adopt(message)

    async def _tick(self) -> None:
        """The totals are also how the master knows that this process lives: they wait for nothing."""
        while True:
            await asyncio.sleep(1.0)
            self.channel.send("totals", totals=self.metrics.totals())

    async def _work_regularly(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            try:
                await self.every_second()
            except Unavailable as error:
                log.warning("%s", error)


async def serve(descriptor: int, app: web.Application, tls: ssl.SSLContext | None = None) -> web.AppRunner:
    """An application on a listening socket of ours, which stays open when the runner is cleaned up: so another can
    take over before that, and no connection is refused in between."""
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=SHUTDOWN_SECONDS)
    await runner.setup()
    await web.SockSite(runner, socket.socket(fileno=os.dup(descriptor)), ssl_context=tls).start()
    return runner


def keyset(message: Message, purpose: str) -> KeySet:
    return KeySet(tuple(Key.from_json(key) for key in message["keys"][purpose]))


def certificates(message: Message) -> list[Certificate]:
    return [_certificate(each) for each in message["certificates"]]


def upstream_certificate(message: Message) -> Certificate | None:
    """The one that we show to applications that ask for one."""
    given = message.get("upstream_certificate")
    return _certificate(given) if given else None


def _certificate(given: Message) -> Certificate:
    return Certificate(given["chain"].encode(), given["private_key"].encode())


async def _run(kind: Callable[[ChildEnd, Message], Child]) -> None:
    channel = await ChildEnd.open(int(sys.argv[1]))
    try:
        start = await channel.receive()
    except ChannelClosed:
        return
    child = kind(channel, start)
    logs.configure(child.seat, level=logs.level(child.settings.log_level))
    await child.serve(confine_writes)


def main(kind: Callable[[ChildEnd, Message], Child], run: Callable[[Any], None] = asyncio.run) -> None:
    """A child's entry point; `run` is the event loop's."""
    hide_memory()
    gain_nothing()
    # Draining is asked for over the channel; a signal to the whole group must not end us in the middle of it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    run(_run(kind))
