"""The keeper's entry: signs checkpoints, keeps the store in order, makes snapshots, answers commands and monitoring."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from aiohttp import web

from gateway.audit.chain import Opening
from gateway.audit.delivery import Deliveries
from gateway.audit.events import EventName, event
from gateway.audit.files import SyncFailed
from gateway.audit.journal import Journal
from gateway.audit.signing import CheckpointWriter, torn_event
from gateway.config.schema import Settings
from gateway.foundation.errors import GatewayError, JournalUnavailable, StoreTampered, Unavailable
from gateway.foundation.keyring import BY_NAME
from gateway.identity import sessions
from gateway.identity.directory import Directory
from gateway.proxy.tls import ServerTls, prove
from gateway.store import snapshot
from gateway.store.anchor import Anchor
from gateway.store.engine import Store
from gateway.store.reader import Reader
from gateway.store.seals import Seals
from gateway.store.sweep import sweep
from gateway.supervisor.arguments import require_shape
from gateway.supervisor.build import Configuration
from gateway.supervisor.certificates import first_end
from gateway.supervisor.channel import Message
from gateway.supervisor.child import Child, certificates, main, serve
from gateway.supervisor.command_socket import command_app
from gateway.supervisor.commands import Context, key_rows, run_command, sealed_rows, snapshot_folder, unrecorded
from gateway.supervisor.ops import ops_app
from gateway.supervisor.progress import WatchedThread
from gateway.supervisor.reserve import KEEP_SECONDS, Reserve
from gateway.supervisor.rotation import SealRotation
from gateway.supervisor.watch import StoreWatch

CHECKPOINT_SECONDS = 2.0
SWEEP_SECONDS = 60.0
REVIEW_SECONDS = 60.0
CREDENTIALS_SECONDS = 10.0
SUPERVISOR_SECONDS = 15.0
"""For which a command waits until all processes have taken something new."""
PROGRESS_SECONDS = 15.0
"""For which a thread may get nowhere until this process has itself replaced: more than the longest wait above, and than
a disk that is merely busy makes anybody wait."""
RESTART_SECONDS = 50.0
"""For the new code to say whether it can take over, and for a reload before that."""
LAST_DELIVERY_SECONDS = 3.0
"""How long witnesses have to take the very last checkpoint."""
MOST_OPENING = 256
"""Characters of one member of a chain's opening: it is in every checkpoint while the chain is open."""

log = logging.getLogger(__name__)
Result = TypeVar("Result")


class Keeper(Child):
    role = "keeper"
    writes = ("store", "anchor", "journal", "checkpoints", "signing", "snapshots")

    def own_folders(self) -> list[Path]:
        self._around = folders_around_witnesses(self.settings)
        return [*super().own_folders(), *self._around]

    async def open_journal(self, journal: Journal) -> None:
        """Its own chain is opened without asking anybody, after the store is in order: it is the first to start."""
        self._signing = WatchedThread("signing", self.clock)
        self._checkpoints = CheckpointWriter(
            self.settings.state_dir, self.keys("journal"), self.settings.node or "", self.clock, self.entropy
        )
        await self._sign(lambda: self._checkpoints.open_chain(journal.opening))

    async def begin(self) -> None:
        settings = self.settings
        seals = Seals(self.keys("seal"))
        self._storing, self._commanding = WatchedThread("store", self.clock), WatchedThread("commands", self.clock)
        self._store = Store.open(settings.store, settings.state_dir, seals)
        self._anchor = Anchor(settings.state_dir, seals)
        await self._open_store()
        self._reader = Reader.open(settings.store, settings.state_dir, seals)
        self._directory = Directory(
            self._reader, self.keys("session"), self.clock, self.metrics, idle_seconds=settings.sessions.idle
        )
        await self._directory.start()
        self._troubles: dict[str, str] = {}
        self._deliveries = self._new_deliveries(self.configuration)
        self._deliveries.start()
        self._commands = asyncio.Lock()
        self._commands_runner = await serve(self.descriptors["keeper"], command_app(self.command))
        self._ops_runner = await self._serve_ops(self.given)
        loop = asyncio.get_running_loop()
        self._reserve = Reserve(self._store, settings.state_dir, self.metrics)
        works = (
            self._sign_regularly,
            self._sweep,
            self._snapshot,
            self._watch_store,
            self._rotate_seals,
            self._keep_reserve,
        )
        self._tasks = [loop.create_task(work()) for work in works]

    async def _open_store(self) -> None:
        """Raises StoreTampered, once it is recorded."""
        self._watch = StoreWatch(self._store, self._anchor, self.clock, self.metrics)
        self._review_due = asyncio.Event()
        self._rotation = SealRotation(self._store, self._anchor, self.clock, self._review, self._retire_seal)
        news, fault = await self._storing.run(self._watch.prepare)
        await self._tell(news)
        if fault is not None:
            raise fault

    async def _serve_ops(self, given: Message) -> web.AppRunner:
        served = certificates(given)
        self.metrics.set("gateway_certificate_expiry_timestamp_seconds", first_end(served))
        tls = ServerTls(served)
        prove(tls.context)
        return await serve(self.descriptors["ops"], ops_app(self), tls.context)

    def _new_deliveries(self, configuration: Configuration) -> Deliveries:
        """Raises GatewayError for a certificate or a token that can't be read."""
        return Deliveries.build(configuration.settings, self.clock, self.metrics, self._record_of_witness)

    async def _record_of_witness(self, name: EventName, of: str, why: str) -> None:
        told = event(name, self.clock.now(), witness=of, problems=[why] if why else [])
        try:
            await self.journal.commit(told)
        except JournalUnavailable as error:
            log.error("%s could not be recorded: %s", name, error)

    async def check(self, configuration: Configuration, message: Message) -> None:
        prove(ServerTls(certificates(message)).context)
        if not set(folders_around_witnesses(configuration.settings)) <= set(self._around):
            raise GatewayError("audit.witnesses: a folder elsewhere takes effect with a restart only")
        self._next_deliveries = self._new_deliveries(configuration)

    async def adopt(self, message: Message) -> None:
        self._checkpoints.seal_with(self.keys("journal"))
        self._store.seals = self._reader.seals = self._anchor.seals = Seals(self.keys("seal"))
        self._directory.session_keys = self.keys("session")
        self._rotation.keys_came()
        self._deliveries.stop()
        self._deliveries = self._next_deliveries
        self._deliveries.start()
        before, self._ops_runner = self._ops_runner, await self._serve_ops(message)
        await before.cleanup()

    async def end(self) -> None:
        for task in self._tasks:
            task.cancel()
        for runner in (self._commands_runner, self._ops_runner):
            await runner.cleanup()
        await self._directory.stop()
        await self._tell(await self._storing.run(self._watch.follow))
        await self._checkpoint()

    async def after_journal(self) -> None:
        """One checkpoint more, which holds the end of its own chain: then all of the journal is signed."""
        await self._sign(self._checkpoints.sign)
        self._tell_witnesses()
        await self._deliveries.finish(LAST_DELIVERY_SECONDS)

    async def every_second(self) -> None:
        self._deliveries.measure()
        for thread in (self._signing, self._storing, self._commanding):
            if (seconds := thread.look()) > PROGRESS_SECONDS:
                self.channel.send("stuck", why=f"{thread.name}: no progress for {seconds:.0f} s")

    # What others ask.

    async def answer(self, what: str, arguments: Message) -> Any:
        match what:
            case "open-chain":
                opening = read_opening(arguments.get("opening"), self.settings.node or "")
                await self._sign(lambda: self._checkpoints.open_chain(opening))
                return None
            case "record-uses":
                uses = read_uses(arguments.get("uses"), self.clock.now())
                await self._storing.run(lambda: sessions.record_uses(self._store, uses))
                return None
            case "review-store":
                self._review_due.set()
                return None
            case _:
                return await super().answer(what, arguments)

    async def take(self, message: Message) -> None:
        """What the supervisor wants recorded: it keeps no journal itself."""
        if message["kind"] != "record":
            return await super().take(message)
        try:
            await self.journal.commit(event(EventName(message["event"]), self.clock.now(), **message["fields"]))
        except JournalUnavailable as error:
            log.error("%s could not be recorded: %s", message["event"], error)
        return None

    async def command(self, verb: str, arguments: Message, operator: str) -> Any:
        """A command from the socket. Raises GatewayError."""
        if verb in ("reload", "status"):
            return await self.channel.ask("supervisor", verb, deadline=SUPERVISOR_SECONDS)
        if verb == "restart":
            return await self.channel.ask("supervisor", verb, deadline=RESTART_SECONDS)
        if verb == "keys.list":
            versions = await self.channel.ask("supervisor", "keys")
            rows = await asyncio.to_thread(sealed_rows, self._store, self.keys("seal"))
            return {"keys": key_rows(versions, rows)}
        if verb == "keys.rotate":
            require_shape(verb, arguments)
            return await self._rotate(arguments.get("purpose", ""), operator)
        async with self._commands:
            context = self._context(operator)
            done = await self._commanding.run(lambda: run_command(context, verb, arguments))
            try:
                for record in done.events:
                    await self.journal.commit(record)
            except JournalUnavailable as error:
                raise unrecorded(verb, error) from error
        return done.answer()

    async def _rotate(self, purpose: str, operator: str) -> Any:
        """The supervisor has the keys; that it was done is recorded here."""
        if purpose not in BY_NAME:
            known = ", ".join(BY_NAME)
            raise GatewayError(f"{purpose!r} can't be rotated; what can: {known}")
        done = await self.channel.ask("supervisor", "rotate", deadline=SUPERVISOR_SECONDS, purpose=purpose)
        told = event(EventName.KEY_ROTATE, self.clock.now(), key=f"{purpose}/{done['id']}", operator=operator)
        try:
            await self.journal.commit(told)
        except JournalUnavailable as error:
            raise unrecorded("keys.rotate", error) from error
        return {**done, "purpose": purpose}

    async def _retire_seal(self, older: str, current: str, count: int) -> None:
        await self.channel.ask("supervisor", "retire", deadline=SUPERVISOR_SECONDS, purpose="seal", current=current)
        await self.journal.commit(event(EventName.KEY_RETIRE, self.clock.now(), key=f"seal/{older}", count=count))

    def _context(self, operator: str) -> Context:
        loop = asyncio.get_running_loop()

        async def commit(told: bytes) -> None:
            await self.journal.commit(told)

        def set_credentials(person: str, password: str, totp_secret: str) -> None:
            asking = self.channel.ask(
                "portal",
                "set-credentials",
                deadline=CREDENTIALS_SECONDS,
                person=person,
                password=password,
                totp_secret=totp_secret,
            )
            asyncio.run_coroutine_threadsafe(asking, loop).result(CREDENTIALS_SECONDS + 1)

        return Context(
            store=self._store,
            settings=self.settings,
            session_keys=self.keys("session"),
            seals=self._store.seals,
            snapshot_keys=self.keys("snapshot"),
            set_credentials=set_credentials,
            roles=frozenset(self.configuration.policy.roles),
            applications=frozenset(self.configuration.policy.applications),
            clock=self.clock,
            entropy=self.entropy,
            operator=operator,
            record=lambda told: asyncio.run_coroutine_threadsafe(commit(told), loop).result(),
        )

    # For monitoring (ops.py).

    async def totals(self) -> Any:
        return await self.channel.ask("supervisor", "totals", deadline=2.0)

    async def status(self) -> Any:
        return await self.channel.ask("supervisor", "status", deadline=2.0)

    @property
    def directory(self) -> Directory:
        return self._directory

    # Regular work.

    async def _sign(self, work: Callable[[], Result]) -> Result:
        """On the signing thread: it reads files, hashes and syncs. A failed sync ends the process."""
        try:
            return await self._signing.run(work)
        except SyncFailed as fault:
            self.die(fault)

    async def _sign_regularly(self) -> None:
        while True:
            await asyncio.sleep(CHECKPOINT_SECONDS)
            try:
                await self._checkpoint()
            except (GatewayError, OSError) as error:
                log.error("no checkpoint could be signed: %s", error)

    async def _checkpoint(self) -> None:
        """Record what a crash has torn, before the chain is said to have ended; then sign what is on disk."""
        followed = await self._sign(self._checkpoints.follow)
        for torn in followed.torn:
            await self.journal.commit(torn_event(torn, self.clock.now()))
        await self._sign(lambda: self._checkpoints.sign(followed))
        self._tell_witnesses()
        news = {chain: why for chain, why in self._checkpoints.troubles.items() if self._troubles.get(chain) != why}
        self._troubles = dict(self._checkpoints.troubles)
        for chain, why in news.items():
            log.critical("a chain of the journal can't be followed: %s", why, extra={"chain": chain})
            broken = event(EventName.JOURNAL_BROKEN, self.clock.now(), chain=chain, problems=[why])
            await self.journal.commit(broken)

    def _tell_witnesses(self) -> None:
        if self._checkpoints.last is not None:
            self._deliveries.signed(self._checkpoints.last.number)

    async def _sweep(self) -> None:
        """Remove what is over: pending sign-ins, spent links, old sessions, old entries of the change feed."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            try:
                await self._storing.run(self._sweep_now)
            except Unavailable as error:
                log.warning("the store could not be swept: %s", error)

    def _sweep_now(self) -> None:
        sessions.end_idle(self._store, self.settings.sessions.idle, self.clock)
        self._store.run(lambda connection: sweep(connection, self.clock.now()))

    async def _watch_store(self) -> None:
        """All of it once a minute, and when a worker has met something; how far it has come, every other second."""
        reviewed_at = self.clock.monotonic()
        while True:
            await asyncio.sleep(CHECKPOINT_SECONDS)
            is_due = self._review_due.is_set() or self.clock.monotonic() - reviewed_at >= REVIEW_SECONDS
            self._review_due.clear()
            try:
                await self._tell(await self._storing.run(self._watch.review if is_due else self._watch.follow))
            except (GatewayError, OSError) as error:
                log.error("the store could not be reviewed: %s", error)
            if is_due:
                reviewed_at = self.clock.monotonic()

    async def _review(self) -> None:
        """Raises StoreTampered if nobody may use the store."""
        await self._tell(await self._storing.run(self._watch.review))
        if self._watch.problem is not None:
            raise StoreTampered(self._watch.problem)

    async def _rotate_seals(self) -> None:
        await self._rotation.run(lambda: self.keys("seal"))

    async def _keep_reserve(self) -> None:
        while True:
            await asyncio.to_thread(self._reserve.keep)
            await asyncio.sleep(KEEP_SECONDS)

    async def _tell(self, news: list[bytes]) -> None:
        for record in news:
            log.critical("somebody else has written to the store: %s", record.decode())
            await self.journal.commit(record)

    async def _snapshot(self) -> None:
        """One every `snapshots.every`, counted from the newest there is, so that restarts don't put it off."""
        while True:
            try:
                made = snapshot.listing(snapshot_folder(self.settings))
                newest = made[0].created_at if made else 0.0
                self.metrics.set("gateway_snapshot_timestamp_seconds", newest)
                due = newest + self.settings.snapshots.every - self.clock.now()
                if due > 0:
                    await asyncio.sleep(min(due, SWEEP_SECONDS))
                else:
                    await self.command("snapshot.create", {}, "keeper")
            except (GatewayError, OSError) as error:
                log.error("no snapshot could be made: %s", error)
                await asyncio.sleep(SWEEP_SECONDS)


def folders_around_witnesses(settings: Settings) -> list[Path]:
    """Where a witness is mounted while we run, only the folder around it says that we may write there (landlock(7))."""
    folders = (each.folder.parent for each in settings.audit.witnesses if each.folder is not None)
    return [folder for folder in dict.fromkeys(folders) if folder.is_dir()]


# What comes from processes that could have been taken over.


def read_opening(value: Any, node: str) -> Opening:
    """Whose it is, the master has seen to (`questions`). Raises GatewayError."""
    names = ("chain", "node", "process", "time")
    if not isinstance(value, dict) or value.keys() != set(names):
        raise GatewayError("that is no opening of a chain")
    if not all(isinstance(value[name], str) and len(value[name]) <= MOST_OPENING for name in names):
        raise GatewayError("that is no opening of a chain")
    if value["node"] != node:
        raise GatewayError("that is the opening of a chain of another node")
    try:
        return Opening(**value)
    except ValueError as error:
        raise GatewayError(str(error)) from error


def read_uses(value: Any, now: float) -> dict[str, float]:
    """Who was there, a worker alone knows; that it is not in the future, we do: such a session would never be idle.
    Raises GatewayError."""
    if not isinstance(value, dict) or not all(isinstance(at, int | float) for at in value.values()):
        raise GatewayError("those are no uses of sessions")
    # What is no number at all is not at or before now either.
    return {session: at if at <= now else now for session, at in value.items()}


if __name__ == "__main__":
    main(Keeper)
