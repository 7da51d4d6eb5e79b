"""Listening sockets that systemd holds for us (sd_listen_fds(3)): they take connections before we run and between two
runs.

Law: what was passed is used or refused by name, never left open and unserved; a socket that is not of the address in
the settings is refused, so that the settings say where the gateway answers whoever binds it.
"""

import os
import socket
from collections.abc import Mapping, MutableMapping
from contextlib import ExitStack

from gateway.config.values import ListenAddress
from gateway.foundation.errors import GatewayError

FIRST = 3
"""SD_LISTEN_FDS_START."""
VARIABLES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")


def take(
    environment: MutableMapping[str, str], wanted: Mapping[str, ListenAddress], first: int = FIRST
) -> dict[str, socket.socket]:
    """The passed sockets by listener, and none where none were meant for this process. Raises GatewayError.

    No child gets them unless it is given them, and none is told of them: the variables are gone afterwards.
    """
    pid, count, names = (environment.pop(name, "") for name in VARIABLES)
    if pid != str(os.getpid()) or not count:
        return {}
    if not (count.isascii() and count.isdigit()) or len(count) > 4:
        raise GatewayError(f"LISTEN_FDS={count!r} is not a number of descriptors")
    named = names.split(":") if names else []
    passed = {}
    with ExitStack() as stack:
        for index in range(int(count)):
            listening = _adopt(first + index, stack)
            name = _listener(named[index] if index < len(named) else "", listening, wanted)
            if name in passed:
                raise GatewayError(f"listen.{name}: two sockets were passed for it; in a .socket unit, write it once")
            passed[name] = listening
        stack.pop_all()
    return passed


def _adopt(descriptor: int, stack: ExitStack) -> socket.socket:
    try:
        os.set_inheritable(descriptor, False)
        listening = stack.enter_context(socket.socket(fileno=descriptor))
    except OSError as error:
        raise GatewayError(f"descriptor {descriptor}, passed by LISTEN_FDS, is no socket: {error.strerror}") from error
    if listening.family not in (socket.AF_INET, socket.AF_INET6) or listening.type != socket.SOCK_STREAM:
        raise GatewayError(
            f"descriptor {descriptor}, passed by LISTEN_FDS, is no TCP socket; write ListenStream=IP:PORT"
        )
    if not listening.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        raise GatewayError(f"descriptor {descriptor}, passed by LISTEN_FDS, does not listen; write Accept=no")
    return listening


def _listener(name: str, listening: socket.socket, wanted: Mapping[str, ListenAddress]) -> str:
    """By its name, if that is one of ours, and by its address otherwise: systemd's default is the name of the unit."""
    host, port = listening.getsockname()[:2]
    bound = ListenAddress(host, port)
    matching = [each for each, address in wanted.items() if (address.address, address.port) == (bound.address, port)]
    if name in wanted and name not in matching:
        raise GatewayError(f"listen.{name}: {wanted[name]} is in the settings, but the socket passed for it is {bound}")
    if not matching:
        raise GatewayError(f"a socket was passed for {bound}, which is no address of `listen` in the settings")
    return matching[0]
