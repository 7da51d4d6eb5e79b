"""How requests are carried to an application, and its answers back: what is neither *who may* nor *where it listens*.

Law: the target that is forwarded is derived from the very `NormalPath` that was decided on, by counting its segments,
never by looking for a text: so what is left is a path in normal form again, and no `..`, `//` or encoding appears that
was not there when the decision was made (CVE-2026-48020). Rules for headers act on what client and application wrote;
what we add comes afterwards, and no rule can name it (`headers`).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from gateway.policy.endpoints import Upstream
from gateway.policy.path import NormalPath


class Destination(NamedTuple):
    """What of the application a request comes to: an exchange under way goes on after a reload only while it would be
    sent to the same place."""

    host: bytes = b""
    """The Host that the application gets; empty: the client's own."""
    is_upstreams: bool = False
    """It gets the name of the upstream that is asked, and several have different ones."""
    strip: int = 0
    """How many segments are left out at the beginning of the path."""
    add: bytes = b""
    """What stands before the rest: `/v2`, or nothing."""

    def target(self, path: NormalPath, target: bytes) -> bytes:
        """The target that is forwarded; `path` is that of `target`, the client's."""
        if not self.strip and not self.add:
            return target
        kept = path.raw.split(b"/")[1 + self.strip :]
        return (self.add + b"".join(b"/" + segment for segment in kept) or b"/") + target[len(path.raw) :]

    def place_at(self, upstream: Upstream) -> tuple[bytes, int, bytes]:
        """What this comes to at one upstream."""
        return self.host_of(upstream), self.strip, self.add

    def host_of(self, upstream: Upstream) -> bytes:
        """The Host for a request that goes to this one; empty: the client's own."""
        return authority_of(upstream) if self.is_upstreams else self.host


AS_IT_IS = Destination()


def stripped(path: NormalPath, segments: int) -> bytes:
    """The beginning of a path that an application does not see, as the client wrote it."""
    return b"/".join(path.raw.split(b"/")[: 1 + segments])


def authority_of(upstream: Upstream) -> bytes:
    """A `Host` (RFC 9110 7.2): without the port that its scheme has anyway."""
    host = f"[{upstream.host}]" if ":" in upstream.host else upstream.host
    is_usual = upstream.port == (443 if upstream.scheme == "https" else 80)
    return (host if is_usual else f"{host}:{upstream.port}").encode("ascii")


@dataclass(frozen=True, slots=True, repr=False)
class HeaderRules:
    """What is set and removed, whatever the other side wrote. No repr of its values: one may be a secret."""

    names: frozenset[bytes] = frozenset()
    """Lower case: their lines don't pass."""
    lines: tuple[bytes, ...] = ()
    """Added after the others."""
    given: frozenset[bytes] = frozenset()
    """Those of `names` that are set and not removed, also where the value is not known: a secret of another process."""

    def __repr__(self) -> str:
        return f"<HeaderRules {len(self.names)} names, {len(self.lines)} set>"

    def applied(self, lines: Sequence[bytes]) -> Sequence[bytes]:
        if not self.names:
            return lines
        return [*(line for line in lines if line.partition(b":")[0].lower() not in self.names), *self.lines]


NO_RULES = HeaderRules()


@dataclass(frozen=True, slots=True, eq=False)
class Terms:
    """Compares by identity: routes of one application share theirs where they say nothing else."""

    cookie_domains: frozenset[str] = frozenset()
    """Domains that the application's own cookies may name."""
    is_own: bool = False
    """Whether the application is the gateway's own."""
    destination: Destination = AS_IT_IS
    request: HeaderRules = NO_RULES
    response: HeaderRules = NO_RULES
    upstream_head_seconds: int | None = None
    """To the head of the application's answer. None, here and below: as the settings have it."""
    upstream_body_seconds: int | None = None
    """For the next bytes of a body, from the application or to it."""
    total_seconds: int | None = None
    """For the whole exchange. None: no limit."""
    body_bytes: int | None = None
    maintenance: str | None = None
    """What visitors are told instead of being served."""

    def facts(self, pattern: str) -> Iterable[tuple[str, str]]:
        """In words, but for what is as usual; no values of headers. `pattern`: the route's, as the file has it."""
        to = self.destination
        limits = (("answer", self.upstream_head_seconds), ("bytes", self.upstream_body_seconds),
                  ("total", self.total_seconds))  # fmt: skip
        return (
            (name, words)
            for name, words in (
                ("host header", "the upstream's" if to.is_upstreams else to.host.decode("ascii")),
                ("prefix stripped", "/".join(pattern.split("/")[: 1 + to.strip]) if to.strip else ""),
                ("prefix added", to.add.decode("ascii")),
                ("request headers", _ruled(self.request)),
                ("response headers", _ruled(self.response)),
                ("time limits", ", ".join(f"{name} {seconds}s" for name, seconds in limits if seconds is not None)),
                ("body limit", f"{self.body_bytes} bytes" if self.body_bytes is not None else ""),
                ("maintenance", self.maintenance or ""),
            )
            if words
        )


def _ruled(rules: HeaderRules) -> str:
    words = [("sets " if name in rules.given else "removes ") + name.decode("ascii") for name in sorted(rules.names)]
    return ", ".join(words)


USUAL = Terms()
"""Of whoever has none of their own: what was refused before it had a route."""
