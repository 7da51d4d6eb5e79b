"""The last head of a connection: browsers and programs send the same again and again, but for the target.

Law: what is remembered changes the time that a head takes, never its meaning. What is compared is the head's bytes but
for the target, what is kept depends on nothing else, and no other connection sees it.
"""

from typing import NamedTuple

from gateway.http1 import limits
from gateway.http1.grammar import ORIGIN_FORM
from gateway.http1.parser import LineMemory
from gateway.policy.match import Match, Policy
from gateway.policy.origins import cross_origin, preflight
from gateway.policy.path import PathRefusal, normalise
from gateway.policy.reasons import Reason
from gateway.proxy.hygiene import Request, examine
from gateway.proxy.refusals import Refusal


class Routed(NamedTuple):
    """Where a request goes, and what its head alone says about the page that it is from."""

    match: Match
    preflight: tuple[tuple[str, str], ...] | None
    """The headers that answer it, if it is a preflight."""
    crossing: Reason | None
    """CROSS_ORIGIN if it may not come from where it comes from."""


class HeadMemory:
    """Of one connection, so `server_name` is always the same."""

    __slots__ = ("_after", "_before", "_block", "_known", "_lines", "_matched", "_routed", "_server_name", "_whole")

    def __init__(self, lines: LineMemory, server_name: str | None) -> None:
        self._lines, self._server_name = lines, server_name
        self._before = self._after = b""
        """The bytes around the target: method and space, then space, version and headers."""
        self._known: Request | None = None
        self._block = b""
        self._whole: Request | None = None
        """The last head whole, target and all, and what it came to."""
        self._matched: tuple[Policy, Request] | None = None
        self._routed = Routed(Match(), None, None)

    def __repr__(self) -> str:
        return f"<HeadMemory {len(self._after)} bytes>"

    def examine(self, block: bytes) -> Request | Refusal:
        """As `hygiene.examine`."""
        if self._whole is not None and block == self._block:
            return self._whole
        request = self._examine(block)
        if isinstance(request, Request) and len(block) <= limits.REMEMBERED_HEAD_BYTES:
            self._block, self._whole = block, request
        return request

    def route(self, policy: Policy, request: Request) -> Routed:
        """A function of nothing else: the last one serves while both are the same objects."""
        last = self._matched
        if last is not None and last[0] is policy and last[1] is request:
            return self._routed
        match = policy.match(request.host, request.method, request.path)
        routed = Routed(match, preflight(match, request.head), cross_origin(match, request.head))
        if self.remembers(request):
            self._matched, self._routed = (policy, request), routed
        return routed

    def remembers(self, request: Request) -> bool:
        """Whether the same bytes would come to this very object again: not those of a large head."""
        return request is self._whole

    def _examine(self, block: bytes) -> Request | Refusal:
        known = self._known
        if known is not None and block.startswith(self._before) and block.endswith(self._after):
            target = block[len(self._before) : -len(self._after)]
            # No target holds a space, so the bytes can't be cut in another place. With the longest one the head is
            # still no longer than `limits.HEAD_BYTES`.
            if ORIGIN_FORM.fullmatch(target):
                return _with_target(known, target)
        request = examine(block, self._lines, self._server_name)
        if isinstance(request, Request):
            self._keep(block, request)
        return request

    def _keep(self, block: bytes, request: Request) -> None:
        before = request.method.encode("ascii") + b" "
        # A head after an empty line is tolerated, and begins with that line: not worth remembering.
        if block.startswith(before) and len(block) <= limits.REMEMBERED_HEAD_BYTES:
            self._before, self._after = before, block[len(before) + len(request.head.target) :]
            self._known = request


def _with_target(known: Request, target: bytes) -> Request | Refusal:
    path = normalise(target.partition(b"?")[0])
    if isinstance(path, PathRefusal):
        return Refusal(path.reason, 400, path.detail)
    return Request(
        known.head.with_target(target),
        known.method,
        path,
        target,
        known.host,
        known.authority,
        known.framing,
        known.is_websocket,
        known.is_last,
        known.credentials,
        known.lines,
        known.body_bytes,
    )
