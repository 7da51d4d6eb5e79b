"""From the headers of a request to the `Principal` behind it. The hot path.

Law: at most one credential of ours in a request. A session cookie that we don't know is nobody (the browser is sent to
sign in); a service token that we don't know is a refusal; a store that does not answer raises and is neither.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from gateway.foundation.principal import ANONYMOUS, Principal
from gateway.http1.messages import Header
from gateway.identity.cookies import SESSION_COOKIE, find_own_cookies
from gateway.policy.reasons import Reason

_SCHEME = re.compile(rb"(?i:bearer)[ \t]+(gwt_.*)", re.DOTALL)
_STRAY_TOKEN = re.compile(rb"(?<![A-Za-z0-9_-])gwt_[A-Za-z0-9_-]{64}(?![A-Za-z0-9_-])")
"""A whole token of ours under another scheme (CONTRACT 6: it must not arrive at an application)."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a request carries of ours, unproven. Never both."""

    session: str | None = None
    bearer: str | None = None


NO_CREDENTIALS = Credentials()


class Identities(Protocol):
    """What answers for a credential: the directory."""

    def session_at_once(self, token: str, host: str) -> Principal | None:
        """None says nothing but that `session` has to be asked, which takes longer."""
        ...

    async def session(self, token: str, host: str) -> Principal | None: ...

    async def service(self, token: str) -> Principal | None: ...


def find_credentials(headers: Iterable[Header]) -> Credentials | Reason:
    """The one credential of ours, or `Reason.CREDENTIALS` if there are two or one is not written as it must be."""
    ours = [header for header in headers if header.name in _CARRIERS]
    if not ours:
        return NO_CREDENTIALS
    cookies = find_own_cookies(ours)
    bearer = _find_bearer([header.value for header in ours if header.name == b"authorization"])
    if cookies is None or isinstance(bearer, Reason):
        return Reason.CREDENTIALS
    session = cookies.get(SESSION_COOKIE)
    if session is not None and bearer is not None:
        return Reason.CREDENTIALS
    return Credentials(session, bearer)


async def authenticate(credentials: Credentials, host: str, identities: Identities) -> Principal | Reason:
    """Raises StoreUnavailable where the answer can't be known."""
    token = credentials.session
    if token is not None:
        return identities.session_at_once(token, host) or await identities.session(token, host) or ANONYMOUS
    if credentials.bearer is not None:
        return await identities.service(credentials.bearer) or Reason.INVALID_TOKEN
    return ANONYMOUS


_CARRIERS = frozenset({b"cookie", b"authorization"})


def _find_bearer(values: list[bytes]) -> str | Reason | None:
    """Our token, if that is what the Authorization header holds; any other one is the application's business."""
    matches = [match for value in values if (match := _SCHEME.fullmatch(value))]
    if matches:
        return matches[0][1].decode("latin-1") if len(values) == 1 else Reason.CREDENTIALS
    return Reason.CREDENTIALS if any(_STRAY_TOKEN.search(value) for value in values) else None
