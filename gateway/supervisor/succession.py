"""The supervisor's succession: it execs itself, and what it held goes to the one that it becomes.

Law: process id, sockets, locks and children stay, so that nobody outside notices; and nothing is given up before the
new code has said, in a rehearsal of its own, that it can take over. After the exec there is no way back: from then on
each process that is there goes on until its successor is ready.
"""

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from subprocess import DEVNULL, Popen
from typing import Any, BinaryIO, Self

from gateway.config.schema import Settings
from gateway.foundation.clock import SystemClock
from gateway.foundation.entropy import SystemEntropy
from gateway.foundation.errors import GatewayError
from gateway.metrics import Totals
from gateway.proxy import rates
from gateway.store.migrate import newest
from gateway.supervisor.build import read_configuration
from gateway.supervisor.equipment import Equipment, open_keyring, worker_count
from gateway.supervisor.roster import Role
from gateway.supervisor.users import identities

PROTOCOL = 2
"""Of `Inheritance`, and of what the supervisor and its processes say to each other: who changes either so that the
version before does not understand it, adds one. `tests/supervisor/protocol.txt` has it in writing."""
REHEARSAL_SECONDS = 30.0
SUCCESSION_SECONDS = 45.0
"""From the question to the exec: less than a command waits (`keeper.RESTART_SECONDS`), and what was rehearsed is not
old by then."""
_INHERITANCE, _REHEARSAL = "BTB_GATEWAY_INHERITANCE", "BTB_GATEWAY_REHEARSAL"

Answer = Callable[[dict[str, Any] | None, str | None], None]


@dataclass(frozen=True, slots=True)
class Left:
    """A process that goes on without noticing."""

    role: Role
    index: int
    pid: int
    channel: int
    incoming: str
    """Of a message that has come in part, in hex; `outgoing`: likewise what it has not taken yet."""
    outgoing: str


@dataclass(frozen=True, slots=True)
class Inheritance:
    sockets: dict[str, int]
    """Descriptors, the locks among them, by the names that `Equipment` has for them."""
    keys: list[str] = field(default_factory=list)
    """Ids of those that its processes have: with any other nobody signs before all have it."""
    children: list[Left] = field(default_factory=list)
    questions: list[tuple[str, int, str]] = field(default_factory=list)
    retired: Totals = field(default_factory=dict)
    """Totals of those that ended before."""
    version: int = 0
    config: str = ""

    @classmethod
    def take(cls) -> Self | None:
        """What our predecessor left; None at a start like any other. Whoever is started from here finds none."""
        if (named := os.environ.pop(_INHERITANCE, None)) is None:
            return None
        with os.fdopen(int(named), "rb") as left:
            members = json.loads(left.read())
        children = [Left(**each) for each in members.pop("children")]
        questions = [(asker, number, asked) for asker, number, asked in members.pop("questions")]
        taken = cls(children=children, questions=questions, **members)
        for descriptor in taken.descriptors():
            os.set_inheritable(descriptor, False)
        return taken

    def descriptors(self) -> list[int]:
        return [*self.sockets.values(), *(each.channel for each in self.children)]

    def become(self) -> None:
        """The end of this program, and the beginning of the one that is installed now. Signals are held (`Signals`), or
        one that comes meanwhile would be the end of it. Raises OSError."""
        will = _in_memory()
        will.write(json.dumps(asdict(self)).encode())
        will.seek(0)
        passed = [will.fileno(), *self.descriptors()]
        try:
            for descriptor in passed:
                os.set_inheritable(descriptor, True)
            os.execve(sys.executable, _command(), {**os.environ, _INHERITANCE: str(will.fileno())})  # noqa: S606 - ourselves.
        finally:
            for descriptor in passed:
                os.set_inheritable(descriptor, False)
            will.close()


class Rehearsal:
    """The new code, as a process beside us: it reads what it would start with, and says why it could not take over.

    Raises OSError if it can't be started.
    """

    def __init__(self, settings: Settings, answer: Answer) -> None:
        self.answer = answer
        self._began = time.monotonic()
        self._said = _in_memory()
        environment = {**os.environ, _REHEARSAL: json.dumps(facts(settings))}
        self._process = Popen(_command(), env=environment, stdin=DEVNULL, stdout=self._said, stderr=self._said)  # noqa: S603 - ourselves.

    def is_over(self, now: float) -> bool:
        if now > self._began + REHEARSAL_SECONDS:
            self._process.kill()
        return self._process.poll() is not None

    def is_past(self, now: float) -> bool:
        """Nobody waits for it any more."""
        return now > self._began + SUCCESSION_SECONDS

    @property
    def objection(self) -> str | None:
        """Once it is over; None: it can take over."""
        if self._process.returncode == 0:
            return None
        self._said.seek(0)
        said = self._said.read().decode("utf-8", "replace").strip()
        return said[-2000:] or f"the new version ended with {self._process.returncode} in its rehearsal"

    def close(self) -> None:
        self._said.close()


def is_run_alone() -> bool:
    """Whether this program does nothing else: `demo` has processes of its own, which no exec hands over."""
    return "run" in sys.orig_argv


def rehearse(config: Path) -> bool:
    """Whether this process is a rehearsal, which then is done. Raises GatewayError for what stands in the way."""
    if (told := os.environ.pop(_REHEARSAL, None)) is None:
        return False
    configuration = read_configuration(config)
    settings = configuration.settings
    held = json.loads(told)
    here = facts(settings)
    changed = [name for name in here if held.get(name) != here[name]]
    if changed:
        raise GatewayError(f"{', '.join(changed)}: this takes a stop and a start; nothing was changed")
    keyring = open_keyring(settings, SystemClock(), SystemEntropy())
    Equipment(configuration, ExitStack(), {}, identities(settings), keyring)
    return True


def facts(settings: Settings) -> dict[str, Any]:
    """What must be the same before and after. By name, since another version may know other settings."""
    users = settings.users
    return {
        "the protocol between versions": PROTOCOL,
        "the store's schema": newest(),
        "the rates' table": rates.ROW_BYTES,
        "state_dir": str(settings.state_dir),
        **{f"listen.{name}": str(address) for name, address in settings.listen},
        "store": settings.store,
        "node": settings.node,
        "users": users.model_dump() if users is not None else None,
        "workers": worker_count(settings),
    }


def _command() -> list[str]:
    """As we were started: by these names, whatever they lead to by now."""
    return [sys.executable, *sys.orig_argv[1:]]


def _in_memory() -> BinaryIO:
    return os.fdopen(os.memfd_create("btb-gateway", os.MFD_CLOEXEC), "w+b")


class Inherited:
    """A process that our predecessor has started: a child of ours still, since we have its id."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._code: int | None = None

    def poll(self) -> int | None:
        if self._code is None:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:
                self._code = -1
            else:
                self._code = os.waitstatus_to_exitcode(status) if pid else None
        return self._code

    def kill(self) -> None:
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)
