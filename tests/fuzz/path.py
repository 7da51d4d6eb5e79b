"""The path of a request.

Promised: it has one meaning. Written again from its segments it comes to the same, decoding it once more or resolving
its dots changes nothing, and another reader of URLs sees the path that we see.
"""

from collections.abc import Iterator
from posixpath import normpath
from unicodedata import normalize
from urllib.parse import quote, unquote

import httptools

from gateway.policy.path import NormalPath, PathRefusal, fold, normalise
from gateway.policy.reasons import Reason
from tests.proxy.corpus import cases

TOKENS = [b"/", b"..", b"%2e", b"%2F", b"%5c", b";", b"%3b", b"%25", b"%00", b"%c0%af", b"%ef%bc%8e", b"%u002e", b"//"]


def seeds() -> Iterator[bytes]:
    for case in cases("target"):
        target = case.wire.split(b" ")[1] if b" " in case.wire else b""
        if len(target) <= 4096:
            yield target.partition(b"?")[0]
    yield b"/a" * 4000
    yield b"/%61" * 2000
    yield b"/" + b"%20" * 2500 + b"."


def reads(data: bytes) -> None:
    normalise(data)


def check(data: bytes) -> None:
    path = normalise(data)
    if isinstance(path, PathRefusal):
        assert path.reason in (Reason.MALFORMED, Reason.AMBIGUOUS)
        return
    assert path.raw == data
    is_what_others_see(path)
    again = normalise(written(path.segments))
    assert isinstance(again, NormalPath), again
    assert again[1:] == path[1:]
    for segment in path.segments:
        fold(segment)


def written(segments: tuple[str, ...]) -> bytes:
    return "".join(f"/{quote(segment, safe='')}" for segment in segments).encode()


def is_what_others_see(path: NormalPath) -> None:
    assert httptools.parse_url(path.raw).path == path.raw
    decoded = unquote(path.raw.decode("ascii"), errors="strict")
    assert decoded == "/" + "/".join(path.segments)
    assert unquote(decoded) == decoded, "decoded once more, it is another"
    # As an application resolves it that takes `\\` for `/` and cuts parameters off, whatever it thinks of widths.
    for text in (decoded, normalize("NFKC", decoded)):
        plain = "/".join(part.partition(";")[0].strip() for part in text.replace("\\", "/").split("/"))
        assert not {".", ".."} & set(plain.split("/")), plain
    if not path.encoded:
        assert normpath(decoded) == (decoded.rstrip("/") or "/")
