"""The supervisor: holds the listening sockets, starts everybody else, replaces and drains them. No event loop, and
nothing of a request.

Law: it never waits for a child, and nothing that a child says can end it: what is no message of ours ends the child.
Signals only set a flag and wake the one `select`. A new configuration is taken by all or by none, keys and certificates
included: every child prepares it and says so, then it is committed; who has not prepared it is replaced. Sockets
outlive the processes that use them, so that replacing one drops no connection that has not been accepted yet.
"""

import logging
import os
import selectors
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from subprocess import DEVNULL, Popen
from typing import Any

from gateway import __version__
from gateway.config.schema import Settings
from gateway.foundation import logs
from gateway.foundation.clock import Clock, SystemClock
from gateway.foundation.errors import GatewayError, InvalidFile
from gateway.foundation.keyring import ROTATABLE
from gateway.foundation.process import hide_memory
from gateway.metrics import Ledger, Metrics
from gateway.proxy.tls import OPENSSL_CONF
from gateway.supervisor.build import Configuration, read_configuration
from gateway.supervisor.channel import ChannelClosed, MasterEnd, Message, require_from_child
from gateway.supervisor.equipment import Equipment
from gateway.supervisor.questions import Questions, refusal
from gateway.supervisor.roster import Roster, Seat, State

PREPARE_SECONDS = 5.0
UNRECORDED = 1000
"""Records that are kept while the keeper is away; far more than can happen in its absence."""
MOST_WORDS = 2000
"""Characters of a child's reason to refuse a configuration: what is longer could not be recorded."""
KILL_SECONDS = 5.0
"""After its deadline a drained process has this long before it is killed."""

log = logging.getLogger(__name__)


@dataclass
class Child:
    """A running process in its seat."""

    seat: Seat
    process: Popen[bytes]
    channel: MasterEnd
    deadline: float | None = None
    """When it is killed, if it has not ended by then."""
    was_asked: bool = False
    """To end: then its end is no fault."""
    is_listened_to: bool = True
    """False once it has closed its end of the channel."""

    @property
    def name(self) -> str:
        return f"{self.seat.name}/{self.process.pid}"


Answer = Callable[[dict[str, Any] | None, str | None], None]
"""Called once, with a result or with an error's words."""


@dataclass
class Reload:
    """A configuration on its way into force."""

    configuration: Configuration
    equipment: Equipment
    version: int
    deadline: float
    waiting: set[str]
    """Processes that were asked and have not said anything yet."""
    answer: Answer
    prepared: set[str] = field(default_factory=set)
    """By process and not by seat: a successor has the old configuration."""


class Master:
    def __init__(self, configuration: Configuration, equipment: Equipment) -> None:
        self._configuration, self._equipment = configuration, equipment
        self._version = 1
        self._roster = Roster(equipment.slots)
        self._children: dict[str, Child] = {}
        self._selector = selectors.DefaultSelector()
        self._reload: Reload | None = None
        self._stop_requested = self._reload_requested = self._announced = False
        self._ledger, self._metrics = Ledger(), Metrics()
        self._metrics.set("gateway_config_reload_failed", 0)
        for seat in self._roster.seats:
            self._metrics.count("gateway_processes_replaced_total", seat.role, by=0)
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._clock: Clock = SystemClock()
        self._started = time.monotonic()
        self._unrecorded: deque[Message] = deque(maxlen=UNRECORDED)
        self._questions = Questions()

    def run(self) -> int:
        """Until everybody has ended after SIGTERM or SIGINT; the exit code."""
        self._catch_signals()
        self._selector.register(self._wake_read, selectors.EVENT_READ, None)
        while not (self._roster.is_stopping and not self._children):
            self._take_signals()
            now = time.monotonic()
            for seat in self._roster.to_start(now):
                self._start(seat, now)
            for seat in self._roster.to_end(now):
                log.error("a process did not become ready", extra={"seat": seat.name})
                self._kill(seat)
            self._keep_time(now)
            self._wait(min(self._roster.next_look(now), 0.5))
            self._reap()
        return 0

    # Signals: the handlers only take note.

    def _catch_signals(self) -> None:
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, _frame: object) -> None:
        if number in (signal.SIGTERM, signal.SIGINT):
            self._stop_requested = True
        elif number == signal.SIGHUP:
            self._reload_requested = True

    def _take_signals(self) -> None:
        if self._stop_requested and not self._roster.is_stopping:
            log.info("stopping")
            self._roster.is_stopping = True
        if self._reload_requested:
            self._reload_requested = False
            self._begin_reload(lambda _result, _error: None)

    # Processes.

    def _start(self, seat: Seat, now: float) -> None:
        ours, theirs = socket.socketpair()
        descriptors = self._equipment.descriptors(seat)
        # -P: no module is taken from whatever folder we were started in.
        command = [sys.executable, "-P", "-m", f"gateway.supervisor.{seat.role}", str(theirs.fileno())]
        environment = {
            **os.environ,
            "OPENSSL_CONF": str(OPENSSL_CONF),
            "MALLOC_MMAP_THRESHOLD_": "131072",
            "MALLOC_ARENA_MAX": "2",
            "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]).rstrip(
                os.pathsep
            ),
        }
        self._equipment.hide_master_key(environment)
        self._roster.started(seat, now)
        try:
            # A session of its own: Ctrl-C in a terminal reaches the supervisor alone, which then drains the others.
            process = Popen(  # noqa: S603 - our own interpreter and module.
                command,
                env=environment,
                pass_fds=(theirs.fileno(), *descriptors.values()),
                stdin=DEVNULL,
                start_new_session=True,
            )
        except OSError as error:
            # Out of processes or memory: tried again, since the others are worth more than this one.
            log.error("a process could not be started: %s", error, extra={"seat": seat.name})
            ours.close()
            self._roster.ended(seat, now)
            return
        finally:
            theirs.close()
        child = Child(seat, process, MasterEnd(ours))
        self._children[seat.name] = child
        self._selector.register(child.channel, selectors.EVENT_READ, child)
        child.channel.send(
            {
                "kind": "start",
                "seat": seat.name,
                "version": self._version,
                "descriptors": descriptors,
                **self._configuration.as_message(),
                **self._equipment.for_role(seat.role),
            }
        )
        log.info("started", extra={"seat": seat.name, "pid": process.pid})

    def _reap(self) -> None:
        for child in list(self._children.values()):
            code = child.process.poll()
            if code is None:
                continue
            # What it still said before it ended counts: its last totals, or why it ended.
            with suppress(ChannelClosed):
                self._take_messages(child)
            self._forget(child, code)

    def _forget(self, child: Child, code: int) -> None:
        seat = child.seat
        self._stop_listening(child)
        child.channel.close()
        del self._children[seat.name]
        self._ledger.retire(child.name)
        self._questions.forget(child.name)
        self._roster.ended(seat, time.monotonic())
        if self._reload is not None:
            self._reload.waiting.discard(child.name)
        if not (child.was_asked or self._roster.is_stopping):
            log.error("a process ended by itself", extra={"seat": seat.name, "pid": child.process.pid, "code": code})
            self._metrics.count("gateway_processes_replaced_total", seat.role)
            self._record("process:replaced", process=seat.name, pid=child.process.pid, reason=f"exit code {code}")

    def _kill(self, seat: Seat) -> None:
        if (child := self._children.get(seat.name)) is not None:
            child.process.kill()

    def _drain(self, child: Child, now: float) -> None:
        if not child.was_asked:
            child.was_asked = True
            child.channel.send({"kind": "drain"})
            child.deadline = now + self._configuration.settings.timeouts.drain + KILL_SECONDS
            child.seat.state = State.ENDING

    def _keep_time(self, now: float) -> None:
        """Deadlines, and the order of the end: workers first, the keeper last, since everybody's journal needs it."""
        if self._roster.is_stopping:
            for role in ("worker", "portal", "keeper"):
                ending = [child for child in self._children.values() if child.seat.role == role]
                for child in ending:
                    self._drain(child, now)
                if ending:
                    break
        for child in self._children.values():
            if child.deadline is not None and now > child.deadline:
                log.error("a process did not end in time", extra={"seat": child.seat.name})
                child.process.kill()
        if self._reload is not None and (not self._reload.waiting or now > self._reload.deadline):
            self._commit_reload(self._reload)

    # Messages.

    def _wait(self, seconds: float) -> None:
        for child in self._children.values():
            if not child.is_listened_to:
                continue
            wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if child.channel.has_outgoing else 0)
            self._selector.modify(child.channel, wanted, child)
        for key, events in self._selector.select(seconds):
            child = key.data
            if child is None:
                with suppress(BlockingIOError):
                    os.read(self._wake_read, 512)
                continue
            if events & selectors.EVENT_WRITE:
                child.channel.flush()
            if events & selectors.EVENT_READ:
                try:
                    self._take_messages(child)
                except ChannelClosed as closed:
                    # It is ending, or broken; either way it must not live on without us.
                    if closed.args:
                        log.error("a process said %s; it is replaced", closed, extra={"seat": child.seat.name})
                    self._stop_listening(child)
                    child.deadline = min(child.deadline or inf, time.monotonic() + KILL_SECONDS)

    def _stop_listening(self, child: Child) -> None:
        if child.is_listened_to:
            child.is_listened_to = False
            self._selector.unregister(child.channel)

    def _take_messages(self, child: Child) -> None:
        for message in child.channel.receive():
            require_from_child(message)
            self._take(child, message)

    def _take(self, child: Child, message: Message) -> None:
        match message["kind"]:
            case "ready":
                if child.seat.state is State.STARTING:
                    self._roster.ready(child.seat, time.monotonic())
                    self._pass_on_records()
                    self._say_ready()
            case "totals":
                try:
                    self._ledger.update(child.name, message["totals"])
                except ValueError as error:
                    raise ChannelClosed(f"totals that can't be: {error}") from error
            case "prepared":
                if self._reload is not None and message["version"] == self._reload.version:
                    self._reload.waiting.discard(child.name)
                    self._reload.prepared.add(child.name)
            case "refused":
                if self._reload is not None and message["version"] == self._reload.version:
                    self._abandon_reload(self._reload, message["why"][:MOST_WORDS])
            case "ask":
                self._relay(child, message)
            case "answer":
                asker = self._children.get(message["to"].partition("/")[0])
                if asker is not None and self._questions.settle(child.name, message["to"], message["id"]):
                    asker.channel.send(message)

    def _relay(self, child: Child, message: Message) -> None:
        to = message["to"]
        if (why := refusal(child.seat, to, message["what"], message["arguments"])) is not None:
            log.error("a question was refused: %s", why, extra={"seat": child.seat.name})
            self._reply(child, message, error=why)
            return
        if to == "supervisor":
            self._answer(child, message)
            return
        target = self._children.get(to)
        if target is None or target.seat.state is not State.READY:
            self._reply(child, message, error=f"the {to} is not running just now", unavailable=True)
        elif not self._questions.put(child.name, message["id"], target.name):
            self._reply(child, message, error=f"the {to} has too many questions to answer", unavailable=True)
        else:
            target.channel.send({**message, "from": child.name})

    def _answer(self, child: Child, message: Message) -> None:
        match message["what"]:
            case "totals":
                self._ledger.update("supervisor", self._metrics.totals())
                self._reply(child, message, self._ledger.totals())
            case "status":
                self._reply(child, message, self._status())
            case "reload":
                self._begin_reload(lambda result, error: self._reply(child, message, result, error=error))
            case "rotate":
                purpose = message["arguments"].get("purpose")
                if purpose not in ROTATABLE:
                    self._reply(child, message, error=f"{purpose!r} can't be rotated")
                    return
                # The new key is in everybody's hands when the reload is committed, or in nobody's.
                self._begin_reload(lambda result, error: self._reply(child, message, result, error=error), purpose)

    def _reply(
        self, child: Child, message: Message, result: Any = None, *, error: str | None = None, unavailable: bool = False
    ) -> None:
        if self._children.get(child.seat.name) is child:
            answer = {"kind": "answer", "id": message["id"], "result": result, "error": error}
            child.channel.send({**answer, "unavailable": unavailable})

    def _record(self, event: str, **fields: Any) -> None:
        """Into the journal, by way of the keeper; kept here while that one is away, so that its own end is recorded."""
        log.info(event, extra={"fields": fields})
        self._unrecorded.append({"kind": "record", "event": event, "fields": fields})
        self._pass_on_records()

    def _pass_on_records(self) -> None:
        keeper = self._children.get("keeper")
        if keeper is not None and keeper.seat.state is State.READY:
            while self._unrecorded:
                keeper.channel.send(self._unrecorded.popleft())

    def _status(self) -> dict[str, Any]:
        """Times are unix seconds, like in every answer to a command (`gateway.cli.remote`)."""
        began = self._clock.now() - time.monotonic()
        return {
            "node": self._configuration.settings.node,
            "version": __version__,
            "config": self._configuration.digest,
            "since": began + self._started,
            "ready": self._roster.all_ready,
            "processes": [
                {
                    "process": seat.name,
                    "pid": self._children[seat.name].process.pid if seat.name in self._children else None,
                    "state": seat.state.name.lower(),
                    "since": began + seat.since,
                }
                for seat in self._roster.seats
            ],
        }

    def _say_ready(self) -> None:
        if self._roster.all_ready and not self._announced:
            self._announced = True
            settings = self._configuration.settings
            print(f"btb-gateway is ready: {settings.origin(settings.login_host)}", flush=True)

    # Reload, in two steps.

    def _begin_reload(self, answer: Answer, rotated: str | None = None) -> None:
        """`rotated`: the purpose of a key that gets a new version on the way."""
        if self._reload is not None:
            answer(None, "another reload is under way")
            return
        try:
            configuration = read_configuration(self._configuration.settings_path)
            _refuse_changes_that_need_a_restart(self._configuration.settings, configuration.settings)
            if rotated is not None:
                self._equipment.rotate(rotated)
            equipment = self._equipment.renewed(configuration)
        except GatewayError as error:
            self._refuse_reload(error, answer)
            return
        self._version += 1
        ready = [child for child in self._children.values() if child.seat.state is State.READY]
        deadline = time.monotonic() + PREPARE_SECONDS
        waiting = {child.name for child in ready}
        self._reload = Reload(configuration, equipment, self._version, deadline, waiting, answer)
        for child in ready:
            message = {"kind": "prepare", "version": self._version, **configuration.as_message()}
            child.channel.send({**message, **equipment.for_role(child.seat.role)})

    def _refuse_reload(self, error: GatewayError, answer: Answer) -> None:
        problems = [str(p) for p in error.problems] if isinstance(error, InvalidFile) else [str(error)]
        self._metrics.set("gateway_config_reload_failed", 1)
        self._record("settings:reload-refused", old=self._configuration.digest, problems=problems[:20])
        answer(None, str(error))

    def _commit_reload(self, reload: Reload) -> None:
        self._reload = None
        for child in self._children.values():
            if child.name in reload.prepared:
                child.channel.send({"kind": "commit", "version": reload.version})
            elif not child.was_asked:
                # Silent, or started meanwhile with the old configuration: its successor gets the new one.
                log.error("a process did not prepare the new configuration; it is replaced", extra={"seat": child.name})
                child.process.kill()
        old, self._configuration = self._configuration, reload.configuration
        self._equipment = reload.equipment
        logging.getLogger().setLevel(logs.level(reload.configuration.settings.log_level))
        self._metrics.set("gateway_config_reload_failed", 0)
        self._record("settings:reload", old=old.digest, new=reload.configuration.digest)
        reload.answer({"config": reload.configuration.digest}, None)

    def _abandon_reload(self, reload: Reload, why: str) -> None:
        self._reload = None
        for child in self._children.values():
            child.channel.send({"kind": "abandon", "version": reload.version})
        self._refuse_reload(GatewayError(why), reload.answer)


def _refuse_changes_that_need_a_restart(old: Settings, new: Settings) -> None:
    changed = [
        name
        for name in ("domain", "state_dir", "master_key", "listen", "workers", "store", "node", "public_port")
        if getattr(old, name) != getattr(new, name)
    ]
    if changed:
        raise GatewayError(f"{', '.join(changed)}: this takes effect with a restart only; nothing was changed")


def main(config: Path) -> int:
    """`btb-gateway run`. Raises GatewayError before anything is started."""
    hide_memory()
    configuration = read_configuration(config)
    logs.configure("supervisor", level=logs.level(configuration.settings.log_level))
    with Equipment.for_configuration(configuration) as equipment:
        return Master(configuration, equipment).run()
