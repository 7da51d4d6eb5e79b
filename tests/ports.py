"""Ports that nobody has."""

import contextlib
import os
import secrets
import socket
from pathlib import Path

LOWEST = 10_000


def free_ports(count: int) -> list[int]:
    """So many of 127.0.0.1, in a row.

    From below the range that the kernel takes ports from: nobody's outgoing connection has one of them when a server
    that was down for a moment starts again. Test processes that run side by side have a share of it each.
    """
    beyond = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    sharing = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    share = (beyond - LOWEST) // sharing
    while True:
        first = LOWEST + number * share + secrets.randbelow(share - count + 1)
        ports = list(range(first, first + count))
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            for port in ports:
                stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
            return ports


def free_port() -> int:
    return free_ports(1)[0]
