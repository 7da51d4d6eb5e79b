"""Witnesses: where checkpoints go that this node can't change afterwards. One class for each kind.

Law: `deliver` returns when the witness has the checkpoint, as far as its protocol can tell; it may be called again with
the same one. Nothing that a witness has is ever overwritten: another checkpoint under the same number is what it is
there to show (`Contradicted`). A server is believed by its certificate only, and no redirect is followed.
"""

import os
import re
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from aiohttp import ClientError, ClientSession, ClientTimeout, TCPConnector

from gateway.audit.apart import Apart
from gateway.audit.chain import parse
from gateway.audit.checkpoint import file_hash
from gateway.audit.known import Known, note
from gateway.config.load import resolve_secret
from gateway.config.schema import WitnessSection
from gateway.config.values import TlsAddress
from gateway.foundation.errors import GatewayError
from gateway.foundation.secret import Secret

_NOTICE_OF_AUDIT = 13 * 8 + 5
"""Facility log audit, severity notice (RFC 5424, 6.2.1)."""
_CONFLICT = 409
STEP_SECONDS = 5.0
REFUSAL_SECONDS = 1.0
Result = TypeVar("Result")


class Undelivered(GatewayError):
    """Why the witness does not have it. To be tried again."""


class Contradicted(Undelivered):
    """The witness has another checkpoint of this number: this node was set back, or somebody signs beside it."""


@dataclass(frozen=True, slots=True)
class Sealed:
    """A checkpoint as its file has it."""

    known: Known
    time: str
    content: bytes

    @classmethod
    def read(cls, path: Path) -> "Sealed":
        """Raises Undelivered."""
        try:
            content = path.read_bytes()
        except OSError as error:
            raise Undelivered(f"{path} can't be read: {error.strerror}") from error
        members = parse(content) or {}
        number, node, time = members.get("number"), members.get("node"), members.get("time")
        if number != int(path.stem) or not isinstance(node, str) or not isinstance(time, str):
            raise Undelivered(f"{path} does not hold the checkpoint of its number")
        return cls(Known(int(path.stem), file_hash(content), node), time, content)


class Witness(Protocol):
    name: str
    keeps_all: bool
    """Whether it gets each checkpoint in turn. Of the others the newest is enough: it holds the hash of the rest."""

    async def begin_at(self, newest: int) -> int:
        """The number to begin with, where `newest` is the last one here. Raises Undelivered."""

    async def deliver(self, checkpoint: Sealed) -> None:
        """Raises Undelivered."""


class FolderWitness:
    """A folder of another machine, mounted here. Works on storage that only lets files be added."""

    keeps_all = True

    def __init__(self, folder: Path, node: str, state_dir: Path) -> None:
        self.name = str(folder)
        self._mount, self._folder, self._state_dir = folder, folder / node, state_dir
        self._apart = Apart(f"folder {folder}")

    async def begin_at(self, newest: int) -> int:
        """With the last one that is there: whether it is the same shows at once if this node was set back."""
        return await self._do(lambda: min(max(self._numbers(), default=1), newest))

    async def deliver(self, checkpoint: Sealed) -> None:
        await self._do(lambda: self._write(checkpoint))

    def _numbers(self) -> list[int]:
        self._prepare()
        names = (path.stem for path in self._folder.glob("*.json"))
        return [int(name) for name in names if name.isascii() and name.isdigit()]

    def _prepare(self) -> None:
        if self._mount.stat().st_dev == self._state_dir.stat().st_dev:
            raise Undelivered(f"{self._mount} is on the disk of state_dir: is it mounted?")
        self._folder.mkdir(exist_ok=True)

    def _write(self, checkpoint: Sealed) -> None:
        self._prepare()
        path = self._folder / f"{checkpoint.known.number:08d}.json"
        there = path.read_bytes() if path.exists() else None
        if there == checkpoint.content:
            return
        # What a crash has cut short is completed.
        if there is not None and not checkpoint.content.startswith(there):
            raise Contradicted(f"{path} is another checkpoint than the one of this number here")
        _append(path, checkpoint.content[len(there or b"") :])

    async def _do(self, work: Callable[[], Result]) -> Result:
        try:
            return await self._apart.do(work)
        except OSError as error:
            raise Undelivered(f"{self._mount} can't be written: {error.strerror or error}") from error


def _append(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


class SyslogWitness:
    """A receiver of syslog over TLS (RFC 5425), which knows no acknowledgement. So each message has a connection of its
    own. With TLS 1.3, and with some receivers always, a refusal of our certificate comes after the handshake: what
    counts is a receiver that has not ended the connection a second later, and then answers its end."""

    keeps_all = False

    def __init__(self, name: str, address: TlsAddress, tls: ssl.SSLContext) -> None:
        self.name, self._address, self._tls = name, address, tls
        self._apart = Apart(f"receiver {name}")

    async def begin_at(self, newest: int) -> int:
        return newest

    async def deliver(self, checkpoint: Sealed) -> None:
        known, time = checkpoint.known, checkpoint.time
        message = f"<{_NOTICE_OF_AUDIT}>1 {time} {known.node} btb-gateway - checkpoint - {note(known, time)}".encode()
        try:
            await self._apart.do(lambda: self._send(b"%d %b" % (len(message), message)))
        except (OSError, UnicodeError) as error:
            raise Undelivered(f"{self.name}: {error}") from error

    def _send(self, frame: bytes) -> None:
        """Each step within `STEP_SECONDS`."""
        host = self._address.host
        with (
            socket.create_connection((host, self._address.port), STEP_SECONDS) as connection,
            self._tls.wrap_socket(connection, server_hostname=host) as receiver,
        ):
            receiver.sendall(frame)
            receiver.settimeout(REFUSAL_SECONDS)
            with suppress(TimeoutError):
                receiver.recv(1)
                raise ConnectionAbortedError("the receiver has ended the connection")
            receiver.settimeout(STEP_SECONDS)
            receiver.unwrap()


class HttpsWitness:
    """A server that takes a POST with the checkpoint's file, and answers 2xx when it has it; 409 if it has another one
    of the same number."""

    keeps_all = False

    def __init__(self, name: str, address: str, tls: ssl.SSLContext, token: Secret[str] | None) -> None:
        self.name, self._address, self._tls, self._token = name, address, tls, token

    async def begin_at(self, newest: int) -> int:
        return newest

    async def deliver(self, checkpoint: Sealed) -> None:
        headers = {"Content-Type": "application/json"}
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token.reveal()}"
        try:
            async with (
                ClientSession(connector=TCPConnector(ssl=self._tls), timeout=ClientTimeout(total=None)) as session,
                session.post(
                    self._address, data=checkpoint.content, headers=headers, allow_redirects=False
                ) as response,
            ):
                status = response.status
        except (ClientError, OSError, UnicodeError) as error:
            raise Undelivered(f"{self.name}: {error}") from error
        if status == _CONFLICT:
            raise Contradicted(f"{self.name} has another checkpoint {checkpoint.known.number}")
        if not 200 <= status < 300:
            raise Undelivered(f"{self.name} answered {status}")


def build(section: WitnessSection, node: str, state_dir: Path) -> Witness:
    """Reads certificates and the token. Raises GatewayError."""
    if section.folder is not None:
        return FolderWitness(section.folder, node, state_dir)
    tls = _tls(section)
    if section.syslog is not None:
        return SyslogWitness(section.name, section.syslog, tls)
    return HttpsWitness(section.name, section.https or "", tls, _token(section))


def _token(section: WitnessSection) -> Secret[str] | None:
    if section.token is None:
        return None
    token = resolve_secret(section.token).reveal()
    if not re.fullmatch(rb"[\x21-\x7e]+", token):
        raise GatewayError(f"audit.witnesses: the token for {section.name} may have printable ASCII characters only")
    return Secret(token.decode())


def _tls(section: WitnessSection) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=section.ca)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if section.certificate is not None:
            context.load_cert_chain(section.certificate, section.private_key)
    except OSError as error:
        raise GatewayError(f"audit.witnesses: {section.name}: its certificates can't be used: {error}") from error
    return context
