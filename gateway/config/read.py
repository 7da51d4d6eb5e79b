"""The only file of this package that touches the disk."""

import os
import socket
import stat
from pathlib import Path

from gateway.foundation.errors import GatewayError, InvalidFile, Problem

LARGEST_FILE_BYTES = 1 << 20
LARGEST_SECRET_BYTES = 1 << 16


def read_text(path: Path) -> str:
    """A settings or policy file, which is UTF-8 and not huge. Raises InvalidFile."""
    try:
        with path.open("rb") as file:
            raw = file.read(LARGEST_FILE_BYTES + 1)
    except FileNotFoundError:
        raise InvalidFile([Problem("there is no such file", file=str(path))]) from None
    except OSError as error:
        raise InvalidFile([Problem(f"can't be read: {error.strerror}", file=str(path))]) from error
    if len(raw) > LARGEST_FILE_BYTES:
        raise InvalidFile([Problem(f"is larger than {LARGEST_FILE_BYTES >> 20} MiB", file=str(path))])
    return decode(raw, str(path))


def decode(raw: bytes, file: str) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        column = error.start - raw.rfind(b"\n", 0, error.start)
        problem = Problem("is not UTF-8", "", "save the file as UTF-8, without a byte order mark", file, line, column)
        raise InvalidFile([problem]) from None


def read_secret(path: Path) -> bytes:
    """A secret's file without the line end. Raises GatewayError, which names the file and never its content."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            secret = file.read(LARGEST_SECRET_BYTES + 1)
    except OSError as error:
        raise GatewayError(f"the secret in {path} can't be read: {error.strerror}") from error
    if stat.S_ISREG(mode) and mode & stat.S_IRWXO:
        raise GatewayError(f"the secret in {path} is open to every user of this machine: run chmod o= {path}")
    if len(secret) > LARGEST_SECRET_BYTES:
        raise GatewayError(f"the secret in {path} is larger than {LARGEST_SECRET_BYTES >> 10} KiB")
    secret = secret.rstrip(b"\r\n")
    if not secret:
        raise GatewayError(f"the secret in {path} is empty")
    return secret


def host_name() -> str:
    return socket.gethostname()
