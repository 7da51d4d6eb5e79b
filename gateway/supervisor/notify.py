"""What systemd is told of a service with `Type=notify` (sd_notify(3)); nothing without one."""

import os
import socket
from contextlib import suppress


def notify(*lines: str) -> None:
    """Never fails, and never waits: who is not listening has missed it."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path.startswith(("/", "@")):
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as service_manager:
        service_manager.sendto("\n".join(lines).encode(), path.replace("@", "\0", 1))
