"""Bodies of any size pass through a worker that does not grow by them, however slow who reads them is.

The long form, `make big`, carries 1 GiB each way (BTB_BIG_MIB), and says what it saw.
"""

import hashlib
import os
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from .running import Gateway, running, until

pytestmark = [pytest.mark.system, pytest.mark.alone]
ORDERS = "orders.btb.localhost"
MIB = 1 << 20
SIZE = int(os.environ.get("BTB_BIG_MIB", "128")) * MIB
GROWS_BY = 32 * MIB
BLOCK = bytes(range(256)) * 256
SLOW_BYTES, SLOW_PAUSE = 8 * MIB, 0.005
"""What a slow reader takes a block at a time, with a pause after each, before it hurries up."""
RECEIVE_BUFFER = 64 * 1024
"""So that it is the gateway that has to wait, and not the kernel that keeps megabytes for the reader."""
SECONDS = 300.0


def take(line: socket.socket, count: int, begun: bytes = b"") -> str:
    """Read so many bytes, slowly at first; their digest."""
    digest, left = hashlib.sha256(begun), count - len(begun)
    while left:
        if count - left < SLOW_BYTES:
            time.sleep(SLOW_PAUSE)
        piece = line.recv(min(left, len(BLOCK)))
        assert piece, f"{left} of {count} bytes are missing"
        digest.update(piece)
        left -= len(piece)
    return digest.hexdigest()


def give(line: socket.socket, count: int) -> None:
    for _ in range(count // len(BLOCK)):
        line.sendall(BLOCK)


def digest_of(count: int) -> str:
    digest = hashlib.sha256()
    for _ in range(count // len(BLOCK)):
        digest.update(BLOCK)
    return digest.hexdigest()


def head_of(line: socket.socket) -> tuple[str, dict[str, str], bytes]:
    """First line and headers, and what came of the body with them."""
    got = b""
    while b"\r\n\r\n" not in got:
        piece = line.recv(len(BLOCK))
        assert piece, got
        got += piece
    head, _, begun = got.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    return first, {name.lower(): value.strip() for name, _, value in (each.partition(":") for each in lines)}, begun


class Warehouse:
    """An application that takes what is posted and gives as many bytes as are asked for, one request a connection."""

    def __init__(self) -> None:
        self._listening = socket.socket()
        self._listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        self._listening.bind(("127.0.0.1", 0))
        self._listening.listen()
        threading.Thread(target=self._run, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listening.getsockname()[1]}"

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _run(self) -> None:
        while True:
            try:
                line, _ = self._listening.accept()
            except OSError:
                return
            with line:
                line.settimeout(SECONDS)
                self._serve(line)

    def _serve(self, line: socket.socket) -> None:
        first, headers, begun = head_of(line)
        method, target, _ = first.split(" ")
        if method == "POST":
            digest = take(line, int(headers["content-length"]), begun).encode()
            line.sendall(
                b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b" % (len(digest), digest)
            )
        else:
            count = int(target.rpartition("/")[2])
            line.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % count)
            give(line, count)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    warehouse = Warehouse()
    with running(Gateway(tmp_path_factory.mktemp("large"), warehouse, workers=1)) as gateway:  # type: ignore[arg-type]
        yield gateway
    warehouse.close()


def ask(gateway: Gateway, method: str, target: str, *lines: str) -> ssl.SSLSocket:
    """A connection on which the head of a request has been sent."""
    plain = socket.socket()
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
    plain.settimeout(SECONDS)
    plain.connect(("127.0.0.1", gateway.ports["https"]))
    line = ssl.create_default_context(cafile=str(gateway.ca)).wrap_socket(plain, server_hostname=ORDERS)
    line.sendall("\r\n".join((f"{method} {target} HTTP/1.1", f"Host: {ORDERS}", *lines, "", "")).encode())
    return line


def upload(gateway: Gateway, size: int) -> str:
    with ask(gateway, "POST", "/open/take", f"Content-Length: {size}") as line:
        give(line, size)
        first, headers, begun = head_of(line)
        assert " 200 " in first
        while len(begun) < int(headers["content-length"]):
            begun += line.recv(1024)
        return begun.decode()


def download(gateway: Gateway, size: int) -> str:
    with ask(gateway, "GET", f"/open/give/{size}") as line:
        first, headers, begun = head_of(line)
        assert (" 200 " in first, headers["content-length"]) == (True, str(size))
        return take(line, size, begun)


def memory(pid: int, which: str) -> int:
    """`VmRSS`, what it has now, or `VmHWM`, the most that it had: bytes (proc(5))."""
    text = Path(f"/proc/{pid}/status").read_text()
    (kilobytes,) = [line.split()[1] for line in text.splitlines() if line.startswith(which)]
    return int(kilobytes) * 1024


@pytest.mark.timeout(900)
@pytest.mark.parametrize("carry", [upload, download])
def test_a_worker_does_not_grow_by_what_it_carries(gateway: Gateway, carry: object) -> None:
    assert callable(carry)
    worker = until(lambda: gateway.seats()["worker-0"])
    assert carry(gateway, 8 * MIB) == digest_of(8 * MIB)
    before = memory(worker, "VmRSS")
    Path(f"/proc/{worker}/clear_refs").write_text("5")  # The most from now on.
    since = time.monotonic()
    assert carry(gateway, SIZE) == digest_of(SIZE)
    seconds, growth = time.monotonic() - since, memory(worker, "VmHWM") - before
    print(f"{SIZE / MIB:.0f} MiB in {seconds:.1f} s: {before / MIB:.1f} MiB, and {growth / MIB:.1f} MiB more at most")
    assert growth < GROWS_BY
    assert gateway.seats()["worker-0"] == worker
