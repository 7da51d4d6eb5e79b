"""Starting one process in its seat: a new interpreter (exec, not fork), with its sockets and its end of a channel."""

import os
import selectors
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from subprocess import DEVNULL, Popen
from typing import Protocol

from gateway.proxy.tls import OPENSSL_CONF
from gateway.supervisor.channel import MasterEnd
from gateway.supervisor.equipment import Equipment
from gateway.supervisor.roster import Seat
from gateway.supervisor.users import UMASK


class Process(Protocol):
    """What the supervisor needs of a process, whoever has started it."""

    @property
    def pid(self) -> int: ...

    def poll(self) -> int | None:
        """Its exit code, once it has ended."""

    def kill(self) -> None: ...


@dataclass
class Child:
    """A running process in its seat."""

    seat: Seat
    process: Process
    channel: MasterEnd
    deadline: float | None = None
    """When it is killed, if it has not ended by then."""
    was_asked: bool = False
    """To end: then its end is no fault."""
    is_listened_to: bool = True
    """False once it has closed its end of the channel."""
    silent_seconds: float = 0.0
    """For how long it has said nothing."""
    stuck: str = ""
    """Why it was given up, though it had not ended."""
    is_confined: bool = False
    """It has said that it can write nothing but what is its own."""
    is_predecessor: bool = False
    """It holds no seat any more: it goes on until another is ready in it, and is then drained."""

    @property
    def name(self) -> str:
        return f"{self.seat.name}/{self.process.pid}"

    @property
    def key(self) -> str:
        """What the master knows it by: its seat, which has one process and perhaps that one's predecessor."""
        return self.name if self.is_predecessor else self.seat.name

    def stop_listening(self, selector: selectors.BaseSelector) -> None:
        if self.is_listened_to:
            self.is_listened_to = False
            selector.unregister(self.channel)


def launch(seat: Seat, equipment: Equipment, descriptors: dict[str, int]) -> Child:
    """Raises OSError: out of processes, or of memory."""
    ours, theirs = socket.socketpair()
    # -P: no module is taken from whatever folder we were started in.
    command = [sys.executable, "-P", "-m", f"gateway.supervisor.{seat.role}", str(theirs.fileno())]
    try:
        # A session of its own: Ctrl-C in a terminal reaches the supervisor alone, which then drains the others.
        process = _popen(command, equipment, seat, (theirs.fileno(), *descriptors.values()))
    except OSError:
        ours.close()
        raise
    finally:
        theirs.close()
    return Child(seat, process, MasterEnd(ours))


def _popen(command: list[str], equipment: Equipment, seat: Seat, descriptors: tuple[int, ...]) -> Popen[bytes]:
    environment = _environment(equipment, seat)
    identity = equipment.identity(seat.role)
    if identity is None:
        return Popen(command, env=environment, pass_fds=descriptors, stdin=DEVNULL, start_new_session=True)  # noqa: S603 - our own interpreter and module.
    return Popen(  # noqa: S603 - as above.
        command,
        env=environment,
        pass_fds=descriptors,
        stdin=DEVNULL,
        start_new_session=True,
        user=identity.user,
        group=identity.group,
        extra_groups=identity.groups,
        umask=UMASK,
    )


def _environment(equipment: Equipment, seat: Seat) -> dict[str, str]:
    ours = str(Path(__file__).parents[2])
    environment = {
        **os.environ,
        "OPENSSL_CONF": str(OPENSSL_CONF),
        "MALLOC_MMAP_THRESHOLD_": "131072",
        "MALLOC_ARENA_MAX": "2",
        "PYTHONPATH": os.pathsep.join([ours, os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep),
    }
    equipment.hide_secrets(environment, seat.role)
    return environment
