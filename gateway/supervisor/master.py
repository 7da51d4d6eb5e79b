"""The supervisor: holds the listening sockets, starts everybody else, replaces and drains them. No event loop, and
nothing of a request.

Law: it never waits for a child, and nothing that a child says can end it: what is no message of ours ends the child.
But for one: before anybody serves, the keeper can find that the store is not to be trusted, which takes an operator.
Sockets outlive the processes that use them, so that replacing one
drops no connection that has not been accepted yet. How something new comes into force is in `reload`,
and how everybody is replaced in `restart`.
"""

import logging
import os
import selectors
import time
from collections import deque
from contextlib import suppress
from math import inf
from pathlib import Path
from typing import Any

from gateway import __version__
from gateway.foundation import logs
from gateway.foundation.clock import Clock, SystemClock
from gateway.foundation.process import gain_nothing, hide_memory
from gateway.metrics import Ledger, Metrics
from gateway.supervisor import signals
from gateway.supervisor.build import Configuration, read_configuration
from gateway.supervisor.channel import EXIT_TAMPERED, ChannelClosed, Message, require_from_child
from gateway.supervisor.equipment import Equipment
from gateway.supervisor.launch import Child, launch
from gateway.supervisor.notify import notify
from gateway.supervisor.questions import MOST_QUOTED, Questions, refusal
from gateway.supervisor.reload import InForce, nobody
from gateway.supervisor.restart import Restart, adopt, leave
from gateway.supervisor.roster import Roster, Seat, State
from gateway.supervisor.succession import Inheritance, rehearse
from gateway.supervisor.users import user_name

UNRECORDED = 1000
"""Records that are kept while the keeper is away; far more than can happen in its absence."""
KILL_SECONDS = 5.0
"""After its deadline a drained process has this long before it is killed."""
SILENT_SECONDS = 10.0
"""A process says something each second; one that has said nothing for so long is stopped, or worse."""
MOST_BETWEEN = 2.0
"""Seconds between two rounds of ours that count as its silence: that we were stopped ourselves is not its fault."""

log = logging.getLogger(__name__)


class Master:
    def __init__(
        self, configuration: Configuration, equipment: Equipment, inheritance: Inheritance | None = None
    ) -> None:
        """`inheritance`: of the supervisor that this process was until now."""
        left = inheritance or Inheritance({})
        self._roster = Roster(equipment.slots)
        self._children: dict[str, Child] = {}
        self._selector = selectors.DefaultSelector()
        self._announced, self._exit_code = False, 0
        self._ledger, self._metrics = Ledger(left.retired), Metrics()
        self._metrics.set("gateway_config_reload_failed", 0)
        for seat in self._roster.seats:
            self._metrics.count("gateway_processes_replaced_total", seat.role, by=0)
        self._signals = signals.Signals()
        self._clock: Clock = SystemClock()
        self._started = self._kept_at = time.monotonic()
        self._unrecorded: deque[Message] = deque(maxlen=UNRECORDED)
        self._questions = Questions(left.questions)
        self._force = InForce(
            configuration, equipment, self._children, self._metrics, self._record, version=left.version + 1
        )
        self._restart = Restart(self._roster, self._children, self._force, self._signals, self._record, self._hand_over)
        for child in map(adopt, left.children):
            self._children[child.key] = child
            self._selector.register(child.channel, selectors.EVENT_READ, child)
        if inheritance is not None:
            self._record("gateway:restart", old=left.config, new=configuration.digest)

    def run(self) -> int:
        """Until everybody has ended after SIGTERM or SIGINT; the exit code."""
        self._signals.catch()
        self._selector.register(self._signals.woken, selectors.EVENT_READ, None)
        while not (self._roster.is_stopping and not self._children):
            self._take_signals()
            now = time.monotonic()
            for seat in self._roster.to_start(now):
                if self._restart.may_follow(seat):
                    self._start(seat, now)
            for seat in self._roster.to_end(now):
                log.error("a process did not become ready", extra={"seat": seat.name})
                self._kill(seat)
            self._keep_time(now)
            self._restart.keep_time(now)
            self._wait(min(self._roster.next_look(now), 0.5))
            self._reap()
        return self._exit_code

    def _take_signals(self) -> None:
        noted = self._signals.take()
        if noted & signals.STOP and not self._roster.is_stopping:
            log.info("stopping")
            notify("STOPPING=1")
            self._roster.is_stopping = True
        if signals.RELOAD in noted:
            self._force.reload(nobody)
        if signals.RESTART in noted:
            self._restart.ask(nobody)

    def _hand_over(self) -> Inheritance:
        # Gauges say how it is with a process that lives.
        ledger = Ledger(self._ledger.retired)
        ledger.update("supervisor", self._metrics.totals())
        ledger.retire("supervisor")
        return Inheritance(
            sockets=self._force.equipment.left(),
            keys=sorted(self._force.equipment.known),
            children=[leave(child) for child in self._children.values()],
            questions=self._questions.waiting,
            retired=ledger.retired,
            version=self._force.version,
            config=self._force.configuration.digest,
        )

    # Processes.

    def _start(self, seat: Seat, now: float) -> None:
        equipment = self._force.equipment
        descriptors = equipment.descriptors(seat)
        self._roster.started(seat, now)
        try:
            child = launch(seat, equipment, descriptors)
        except OSError as error:
            # Out of processes or memory: tried again, since the others are worth more than this one.
            log.error("a process could not be started: %s", error, extra={"seat": seat.name})
            self._roster.ended(seat, now)
            return
        self._children[seat.name] = child
        self._selector.register(child.channel, selectors.EVENT_READ, child)
        child.channel.send(
            {
                "kind": "start",
                "seat": seat.name,
                "version": self._force.version,
                "descriptors": descriptors,
                **self._force.configuration.as_message(),
                **equipment.for_role(seat.role),
            }
        )
        log.info("started", extra={"seat": seat.name, "pid": child.process.pid})

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
        child.stop_listening(self._selector)
        child.channel.close()
        del self._children[child.key]
        self._ledger.retire(child.name)
        self._questions.forget(child.name)
        self._roster.ended(seat, time.monotonic())
        self._force.forget(child)
        if code == EXIT_TAMPERED and seat.role == "keeper" and not seat.was_ready:
            log.critical("the store is not to be trusted: stopping; see `store check`, which works without us")
            self._roster.is_stopping, self._exit_code = True, 1
        if not (child.was_asked or self._roster.is_stopping):
            log.error("a process ended by itself", extra={"seat": seat.name, "pid": child.process.pid, "code": code})
            self._metrics.count("gateway_processes_replaced_total", seat.role)
            reason = child.stuck or f"exit code {code}"
            self._record("process:replaced", process=seat.name, pid=child.process.pid, reason=reason)

    def _kill(self, seat: Seat) -> None:
        if (child := self._children.get(seat.name)) is not None:
            child.process.kill()

    def _give_up(self, child: Child, why: str) -> None:
        """It lives, and does not work: another takes its seat once the kernel has let go of it, and not before. On a
        disk that answers nobody, one after the other would only wait beside it."""
        if not (child.stuck or child.was_asked):
            log.critical(
                "a process gets nowhere and is replaced: %s",
                why,
                extra={"seat": child.seat.name, "pid": child.process.pid},
            )
            child.stuck, child.seat.state = why, State.ENDING
            child.process.kill()

    def _drain(self, child: Child, now: float) -> None:
        if not child.was_asked:
            child.was_asked = True
            child.channel.send({"kind": "drain", "succeeded": child.is_predecessor})
            child.deadline = now + self._force.configuration.settings.timeouts.drain + KILL_SECONDS
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
        for child in self._restart.relieved:
            self._drain(child, now)
        passed, self._kept_at = min(now - self._kept_at, MOST_BETWEEN), now
        for child in self._children.values():
            child.silent_seconds += passed
            if child.seat.state is State.READY and child.silent_seconds > SILENT_SECONDS:
                self._give_up(child, f"silent for {SILENT_SECONDS:g} s")
            if child.deadline is not None and now > child.deadline:
                log.error("a process did not end in time", extra={"seat": child.seat.name})
                child.process.kill()
        # Who is starting just now would be replaced: it has the keys of before.
        is_quiet = not any(seat.state is State.STARTING for seat in self._roster.seats)
        self._force.keep_time(now, may_renew=is_quiet and not self._roster.is_stopping)

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
                self._signals.hear()
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
                    child.stop_listening(self._selector)
                    child.deadline = min(child.deadline or inf, time.monotonic() + KILL_SECONDS)

    def _take_messages(self, child: Child) -> None:
        for message in child.channel.receive():
            child.silent_seconds = 0.0
            require_from_child(message)
            self._take(child, message)

    def _take(self, child: Child, message: Message) -> None:
        match message["kind"]:
            case "ready":
                child.is_confined = message["confined"]
                if child.seat.state is State.STARTING:
                    self._roster.ready(child.seat, time.monotonic())
                    self._pass_on_records()
                    self._say_ready()
            case "totals":
                try:
                    self._ledger.update(child.name, message["totals"])
                except ValueError as error:
                    raise ChannelClosed(f"totals that can't be: {error}") from error
            case "stuck":
                self._give_up(child, message["why"][:MOST_QUOTED])
            case "prepared":
                self._force.prepared(child, message["version"])
            case "refused":
                self._force.refused(child, message["version"], message["why"])
            case "ask":
                self._relay(child, message)
            case "answer":
                to = message["to"]
                asker = self._children.get(to) or self._children.get(to.partition("/")[0])
                if asker is not None and self._questions.settle(child.name, message["to"], message["id"]):
                    asker.channel.send(message)

    def _relay(self, child: Child, message: Message) -> None:
        child.channel.require_read()
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
                self._force.reload(lambda *said: self._answered(child, message, *said))
            case "restart":
                self._restart.ask(lambda *said: self._answered(child, message, *said))
            case "keys":
                self._reply(child, message, self._force.equipment.keys())
            case "rotate":
                purpose = message["arguments"].get("purpose")
                self._force.rotate(purpose, lambda *said: self._answered(child, message, *said))
            case "retire":
                asked = message["arguments"]
                purpose, current = asked.get("purpose"), asked.get("current")
                self._force.retire(purpose, current, lambda *said: self._answered(child, message, *said))

    def _answered(self, child: Child, message: Message, result: dict[str, Any] | None, error: str | None) -> None:
        self._reply(child, message, result, error=error)

    def _reply(
        self, child: Child, message: Message, result: Any = None, *, error: str | None = None, unavailable: bool = False
    ) -> None:
        if self._children.get(child.key) is child:
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
            "node": self._force.configuration.settings.node,
            "version": __version__,
            "config": self._force.configuration.digest,
            "since": began + self._started,
            "ready": self._roster.all_ready,
            "leaving": [child.process.pid for child in self._restart.predecessors],
            "processes": [self._status_of(seat, began) for seat in self._roster.seats],
        }

    def _status_of(self, seat: Seat, began: float) -> dict[str, Any]:
        child, identity = self._children.get(seat.name), self._force.equipment.identity(seat.role)
        return {
            "process": seat.name,
            "pid": child.process.pid if child is not None else None,
            "state": seat.state.name.lower(),
            "since": began + seat.since,
            "user": identity.name if identity is not None else user_name(os.geteuid()),
            "confined": child is not None and child.is_confined,
        }

    def _say_ready(self) -> None:
        if self._roster.all_ready and not self._announced:
            self._announced = True
            settings = self._force.configuration.settings
            print(f"btb-gateway is ready: {settings.origin(settings.login_host)}", flush=True)
            notify("READY=1")


def main(config: Path) -> int:
    """`btb-gateway run`. Raises GatewayError before anything is started."""
    hide_memory()
    gain_nothing()
    if rehearse(config):
        return 0
    inheritance = Inheritance.take()
    configuration = read_configuration(config)
    logs.configure("supervisor", level=logs.level(configuration.settings.log_level))
    inherited = (inheritance.sockets, inheritance.keys) if inheritance is not None else ()
    with Equipment.for_configuration(configuration, *inherited) as equipment:
        return Master(configuration, equipment, inheritance).run()
