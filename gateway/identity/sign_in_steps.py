"""The state table of sign-in: which step asks for what, on which proof of the step before, and where it leads.

Law: nobody reaches a step by asking for it (CVE-2026-49443: a stage that an empty POST advanced). Each step but the
first needs a row that the server wrote when the step before was passed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from gateway.foundation.addresses import Address
from gateway.foundation.errors import Unavailable
from gateway.identity.handover import SignInRequest


class Step(StrEnum):
    PASSWORD = "password"  # noqa: S105 - the name of a step.
    CODE = "code"
    FRESH_CODE = "fresh-code"
    DONE = "done"


@dataclass(frozen=True, slots=True)
class Rule:
    adds: str
    """The RFC 8176 value that passing it adds to `amr`."""
    then: Step


RULES: Mapping[Step, Rule] = {
    Step.PASSWORD: Rule(adds="pwd", then=Step.CODE),
    Step.CODE: Rule(adds="otp", then=Step.DONE),
    Step.FRESH_CODE: Rule(adds="otp", then=Step.DONE),
}
"""A password is asked of anybody; a code rests on a pending sign-in, whose stage is the step that it waits for; a
fresh code rests on a live session."""
FIRST = Step.PASSWORD

PENDING_SECONDS = 300
PENDING_CODES = 5
"""Codes that may be tried on one right password; then it is asked for again."""


class Why(StrEnum):
    """Why a step was refused. For the audit event; the page says the same for all but the expired ones."""

    UNKNOWN_NAME = "unknown-name"
    WRONG_PASSWORD = "wrong-password"  # noqa: S105 - the name of a reason.
    DISABLED = "disabled"
    NO_FACTOR = "no-factor"
    TOO_MANY_PASSWORDS = "too-many-passwords"
    """The last of too many in a row, and each hundredth after it: no other counts that comes the same way. Raises an
    alarm."""
    PASSWORD_DISABLED = "password-disabled"  # noqa: S105 - the name of a reason.
    """There were too many in a row before it."""
    WRONG_CODE = "wrong-code"
    TOO_MANY_CODES = "too-many-codes"
    """A wrong one, the last of too many in a row: it has disabled the authenticator. Raises an alarm."""
    USED_CODE = "used-code"
    CLOCK = "clock"
    """The authenticator was used at a later time than it is now: our clock has stepped back. Raises an alarm."""
    EXPIRED_REQUEST = "expired-request"
    EXPIRED_SIGN_IN = "expired-sign-in"
    NO_SESSION = "no-session"


@dataclass(frozen=True, slots=True)
class Client:
    """Where an attempt comes from. `device`: the value of the device cookie, if the browser sent one."""

    address: Address
    device: str = ""
    description: str = ""
    """For the list of one's own sessions: the browser, as it names itself."""
    session: str = ""
    """The session that this browser has on the login host; a new sign-in ends it (ASVS 7.2.4)."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """Ask for this next. `request` is None if somebody came to the login host by themselves."""

    step: Step
    request: SignInRequest | None


@dataclass(frozen=True, slots=True)
class HandOver:
    """Send the browser to `https://<host>/.gateway/callback?code=<code>`, with these Set-Cookie values."""

    host: str
    code: str
    set_cookies: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AlreadySignedIn:
    """Nothing to ask and nowhere to go."""


@dataclass(frozen=True, slots=True)
class PasswordAccepted:
    """`pending` is the value of the sign-in cookie, for `PENDING_SECONDS`."""

    person: str
    pending: str


@dataclass(frozen=True, slots=True)
class SignedIn:
    """`host_token` is the session cookie for the login host; `device` the device cookie, for `DEVICE_SECONDS`."""

    person: str
    name: str
    session: str
    amr: tuple[str, ...]
    host_token: str
    device: str
    hand_over: HandOver | None


@dataclass(frozen=True, slots=True)
class CodeRenewed:
    """A live session has a fresh code; its cookies stay as they are."""

    person: str
    session: str
    hand_over: HandOver | None


@dataclass(frozen=True, slots=True)
class Refused:
    """`person` is the stable id, empty where no account has the name."""

    why: Why
    person: str = ""
    session: str = ""


class NotLookedAt(Unavailable):
    """The last password of too many in a row was counted, and then could not be looked at."""

    def __init__(self, why: str, refused: Refused) -> None:
        super().__init__(why)
        self.refused = refused


@dataclass(frozen=True, slots=True)
class Throttled:
    """Nothing was looked at. `retry_after` in whole seconds."""

    retry_after: int
    person: str = ""


@dataclass(frozen=True, slots=True)
class Redeemed:
    """A hand-over that arrived: the session cookie for this host, where to go, and the names of cookies to clear."""

    person: str
    session: str
    host_token: str
    target: str
    nonce_cookie: str
    half_cookie: str
