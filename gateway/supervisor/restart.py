"""A restart: asked for, rehearsed, handed over; and afterwards one process after another until none is left of those
before.

Law: nobody leaves a seat before another is ready in it, but for the keeper: two would sign side by side. A restart that
can't be is refused in words, and nothing happens.
"""

import logging
import socket
import time
from collections.abc import Callable, Mapping

from gateway.supervisor.channel import MasterEnd
from gateway.supervisor.launch import Child
from gateway.supervisor.notify import notify
from gateway.supervisor.reload import Answer, InForce, Record
from gateway.supervisor.roster import Roster, Seat, State
from gateway.supervisor.signals import Signals
from gateway.supervisor.succession import Inheritance, Inherited, Left, Rehearsal, is_run_alone

log = logging.getLogger(__name__)


class Restart:
    def __init__(
        self,
        roster: Roster,
        children: Mapping[str, Child],
        force: InForce,
        signals: Signals,
        record: Record,
        hand_over: Callable[[], Inheritance],
    ) -> None:
        self._roster, self._children, self._force, self._signals = roster, children, force, signals
        self._record, self._hand_over = record, hand_over
        self._rehearsal: Rehearsal | None = None

    def ask(self, answer: Answer) -> None:
        """Answered before the exec: whoever asks sees by `status` what has become of it."""
        if self._rehearsal is not None or self.predecessors:
            answer(None, "another restart is under way")
        elif not is_run_alone():
            answer(None, "only a gateway that was started with `run` can restart itself")
        elif not self._roster.all_ready or self._roster.is_stopping:
            answer(None, "not every process is ready: see `status`")
        else:
            try:
                self._rehearsal = Rehearsal(self._force.configuration.settings, answer)
            except OSError as error:
                answer(None, f"the new version can't be started: {error}")

    def keep_time(self, now: float) -> None:
        rehearsal = self._rehearsal
        if rehearsal is None or not rehearsal.is_over(now):
            return
        if (objection := rehearsal.objection) is not None:
            self._refuse(rehearsal, objection)
        elif self._roster.is_stopping:
            self._refuse(rehearsal, "stopping")
        elif rehearsal.is_past(now):
            self._refuse(rehearsal, "not every process became ready in time: see `status`")
        # Not in the middle of a reload, and with everybody there: what is half done could not be handed over.
        elif self._force.coming is None and self._roster.all_ready:
            self._become_successor(rehearsal)

    def _refuse(self, rehearsal: Rehearsal, objection: str) -> None:
        self._end(rehearsal, objection)
        rehearsal.answer(None, objection)

    def _end(self, rehearsal: Rehearsal, objection: str) -> None:
        self._rehearsal = None
        rehearsal.close()
        self._record("gateway:restart-refused", problems=objection.splitlines()[:20])

    def _become_successor(self, rehearsal: Rehearsal) -> None:
        with self._signals.held() as has_come:
            if has_come:
                return  # We come back when it has been dealt with: the successor would not know of it.
            rehearsal.answer({"config": self._force.configuration.digest}, None)
            log.info("restarting")
            notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
            try:
                self._hand_over().become()
            except OSError as error:
                notify("READY=1")
                self._end(rehearsal, f"the new version can't be started: {error}")

    # Afterwards.

    @property
    def predecessors(self) -> list[Child]:
        return [child for child in self._children.values() if child.is_predecessor]

    def may_follow(self, seat: Seat) -> bool:
        """Two keepers would sign side by side. Workers start one after the other: those that serve need the
        processors as well."""
        before = {child.seat.role for child in self.predecessors}
        if seat.role == "worker" and "worker" in before:
            return not any(each.role == "worker" and each.state is State.STARTING for each in self._roster.seats)
        return seat.role != "keeper" or "keeper" not in before

    @property
    def relieved(self) -> list[Child]:
        """Predecessors that may end, since another is ready in their seat; the keeper's alone goes first."""
        return [
            child
            for child in self.predecessors
            if child.seat.role == "keeper" or self._roster.seat(child.seat.name).state is State.READY
        ]


def leave(child: Child) -> Left:
    incoming, outgoing = child.channel.left
    seat, descriptor = child.seat, child.channel.fileno()
    return Left(seat.role, seat.index, child.process.pid, descriptor, incoming.hex(), outgoing.hex())


def adopt(left: Left) -> Child:
    seat = Seat(left.role, left.index, State.READY, time.monotonic(), was_ready=True)
    channel = MasterEnd(
        socket.socket(fileno=left.channel), incoming=bytes.fromhex(left.incoming), outgoing=bytes.fromhex(left.outgoing)
    )
    return Child(seat, Inherited(left.pid), channel, is_predecessor=True)
