"""Records, as fragments: the bytes of JSON members, to which `chain.seal` adds sequence number and hash.

Law: **redaction happens here and nowhere else**, because every sink reads what is built here (CVE-2024-8365,
CVE-2025-62513, CVE-2025-62705: audit logs that held tokens and bodies).
- A path is recorded without its query, and with the segments that its route calls secret replaced.
- A name typed at sign-in is recorded only when an account has it: people type passwords into that field.
- An event has the fields of `EventFields` and no others; `Secret`, bytes and unknown types are refused with TypeError.
- Every string passes through JSON's ASCII escapes, so that no value can begin a line or end a string.
- A string longer than its cap is cut, and says so.
"""

import re
from collections.abc import Mapping, Sequence
from enum import StrEnum
from functools import lru_cache
from json.encoder import encode_basestring_ascii as quote
from math import isfinite
from typing import TypedDict, Unpack

from gateway.foundation.clock import isoformat
from gateway.foundation.principal import Credential, Principal

TEXT_CAP = 512
"""Characters; longer than any name, id, host or reason that the gateway itself lets through."""
PATH_CAP = 8192
"""The longest request target that is accepted, so that a decided path is always whole."""
REFUSED_PATH_CAP = 512
"""Of what strangers are refused, which draws on a budget (`audit.budget`): long paths must not be what empties it."""
SECRET_MARK = "<secret>"  # noqa: S105 - the mark that replaces one.
UNKNOWN_NAME = "<unknown>"
_TOKEN = re.compile(r"gw[te]_[A-Za-z0-9_-]{64}")


class EventName(StrEnum):
    """Everything that is recorded beside decisions and outcomes. Closed: alerts and searches rely on it."""

    SIGN_IN_SUCCESS = "sign-in:success"
    SIGN_IN_FAILURE = "sign-in:failure"
    SIGN_IN_THROTTLED = "sign-in:throttled"
    SIGN_OUT = "sign-out"
    STEP_UP_SUCCESS = "step-up:success"
    STEP_UP_FAILURE = "step-up:failure"
    HAND_OVER_FAILURE = "hand-over:failure"
    ENROLMENT_CREATE = "enrolment:create"
    ENROLMENT_DONE = "enrolment:done"
    ENROLMENT_FAILURE = "enrolment:failure"
    FACTOR_ADD = "factor:add"
    FACTOR_DISABLE = "factor:disable"
    USER_ADD = "user:add"
    USER_DISABLE = "user:disable"
    USER_ENABLE = "user:enable"
    USER_REMOVE = "user:remove"
    USER_RESET = "user:reset"
    USER_UNLOCK = "user:unlock"
    GRANT_ADD = "grant:add"
    GRANT_REMOVE = "grant:remove"
    TENANT_ADD = "tenant:add"
    TENANT_CLOSE = "tenant:close"
    TOKEN_CREATE = "token:create"  # noqa: S105 - an event's name.
    TOKEN_REVOKE = "token:revoke"  # noqa: S105 - an event's name.
    SESSION_REVOKE = "session:revoke"
    SETTINGS_RELOAD = "settings:reload"
    SETTINGS_RELOAD_REFUSED = "settings:reload-refused"
    KEY_ROTATE = "key:rotate"
    KEY_RETIRE = "key:retire"
    GATEWAY_RESTART = "gateway:restart"
    GATEWAY_RESTART_REFUSED = "gateway:restart-refused"
    PROCESS_START = "process:start"
    PROCESS_REPLACED = "process:replaced"
    PROCESS_STOP = "process:stop"
    CHAIN_CLOSE = "chain:close"
    JOURNAL_TORN_LINE = "journal:torn-line"
    JOURNAL_BROKEN = "journal:broken"
    JOURNAL_HEALED = "journal:healed"
    REFUSALS_COUNTED = "refusals:counted"
    WITNESS_FAILED = "witness:failed"
    WITNESS_CONTRADICTED = "witness:contradicted"
    WITNESS_RESTORED = "witness:restored"
    SNAPSHOT_CREATE = "snapshot:create"
    SNAPSHOT_VERIFY = "snapshot:verify"
    SNAPSHOT_RESTORE = "snapshot:restore"
    STORE_SEALED = "store:sealed"
    STORE_BROKEN = "store:broken"
    STORE_TAMPERED = "store:tampered"
    STORE_RESEAL = "store:reseal"
    CLOCK_BACKWARDS = "clock:backwards"


TYPED_NAME_EVENTS = frozenset(
    {EventName.SIGN_IN_FAILURE, EventName.SIGN_IN_THROTTLED, EventName.STEP_UP_FAILURE, EventName.ENROLMENT_FAILURE}
)
"""Events that may follow what a stranger typed: their name comes as `typed_name`, never as `name`."""


class EventFields(TypedDict, total=False):
    """What an event may say. Public ids only: the id of a token or session, never its text."""

    request_id: str | None
    config: str
    user: str | None
    """Stable id of the person or service account that the event is about."""
    name: str
    """Name of an account or thing that exists."""
    typed_name: str
    typed_name_known: bool
    """Whether an account has `typed_name`; without it the name is not recorded."""
    tenant: str | None
    session: str | None
    credential: Credential
    amr: Sequence[str]
    client: str | None
    actor: str | None
    """Stable id of the person who did it through a page."""
    operator: str | None
    """The operating system's user who did it with a command."""
    application: str | None
    applications: Sequence[str]
    route: str | None
    method: str
    host: str
    path: str
    status: int
    reason: str
    grant: str
    grants: Sequence[str]
    factor: str
    token_id: str
    expires: float | None
    count: int
    old: str | None
    """Hash of the settings or policy before."""
    new: str | None
    problems: Sequence[str]
    process: str
    pid: int
    version: str
    chain: str
    seq: int
    file: str
    line: int
    offset: int
    bytes: int
    seconds: float
    refused: int
    unacknowledged: int
    dropped: int
    since: str
    until: str
    first_request: str
    last_request: str
    by_reason: Mapping[str, int]
    by_application: Mapping[str, int]
    by_network: Mapping[str, int]
    key: str
    snapshot: str
    witness: str


_FIELDS = frozenset(EventFields.__annotations__)


def identity_fragment(principal: Principal) -> bytes:
    """Who asks. Made once for each `Principal` and kept by the caller: a change of grants makes a new one."""
    credential = _credential(principal.credential)
    return (
        f'"user":{_text(principal.id or None)},"name":{_text(principal.name or None)},'
        f'"session":{_text(principal.session or None)},"credential":{credential},'
        f'"amr":{_texts(principal.amr)},"grants":{_texts(sorted(map(str, principal.grants)))}'
    ).encode("ascii")


def route_fragment(application: str | None, route: str | None, upstream: str | None = None) -> bytes:
    """What was matched. Made once for each route and upstream and kept by the caller."""
    return f'"application":{_text(application)},"route":{_text(route)},"upstream":{_text(upstream)}'.encode("ascii")


def ruling(
    identity: bytes,
    route: bytes,
    *,
    config: str,
    tenant: str | None,
    method: str,
    host: str,
    path: str,
    decision: str,
    reason: str,
    client: str,
    via: str | None = None,
    missing: str | None = None,
    detail: str | None = None,
    secret: Sequence[int] = (),
    path_cap: int = PATH_CAP,
) -> bytes:
    """What is the same in the records of all requests that came to this decision: made once and kept by the caller.
    `path` is the request's target; `secret` the positions (from 0) of its secret segments. `missing` is the permission
    that was lacking, `detail` a word on the reason; neither may quote the client. `via` is the balancer that named the
    client."""
    balancer = "" if via is None else f',"via":{_word(via)}'
    extra = "" if missing is None else f'"missing":{_text(missing)},'
    if detail is not None:
        extra += f'"detail":{_text(detail)},'
    text = (
        f'"config":{_word(config)},"tenant":{_word(tenant)},"method":{_word(method)},"host":{_word(host)},'
        f'"path":{_text(redact_path(path, secret), path_cap)},"decision":{_word(decision)},'
        f'"reason":{_word(reason)},{extra}"client":{_word(client)}{balancer}'
    )
    return b"%b,%b,%b" % (text.encode("ascii"), identity, route)


def decision(ruling: bytes, time: float, request_id: bytes, otp_time: float | None) -> bytes:
    """One decision. `request_id`: letters and digits, made by ourselves. `otp_time`: of the last one-time code of
    whoever asks, from which its age is recorded."""
    microseconds = int(time * 1_000_000 + 0.5)
    age = b"null" if otp_time is None else b"%.3f" % (time - otp_time)
    return b'"kind":"decision","time":"%b%06dZ","request_id":"%b","otp_age":%b,%b' % (
        _second(microseconds // 1_000_000),
        microseconds % 1_000_000,
        request_id,
        age,
        ruling,
    )


def outcome(
    request_id: bytes,
    status: int | None,
    bytes_in: int,
    bytes_out: int,
    duration_ms: float,
    *,
    time: float,
    upstream: str | None = None,
    fault: str | None = None,
) -> bytes:
    """How a decided exchange ended; its decision has the same `request_id`. `status` None: no answer was begun."""
    microseconds = int(time * 1_000_000 + 0.5)
    return (
        b'"kind":"outcome","time":"%b%06dZ","request_id":"%b","status":%b,"bytes_in":%d,"bytes_out":%d,'
        b'"duration_ms":%.3f%b%b'
    ) % (
        _second(microseconds // 1_000_000),
        microseconds % 1_000_000,
        request_id,
        b"null" if status is None else b"%d" % status,
        bytes_in,
        bytes_out,
        duration_ms,
        b"" if upstream is None else _member("upstream", upstream),
        b"" if fault is None else _member("fault", fault),
    )


def event(name: EventName, time: float, /, **fields: Unpack[EventFields]) -> bytes:
    """Anything else that happened. Raises TypeError on a field or a type that may not be recorded."""
    values: dict[str, object] = dict(fields)
    unknown = values.keys() - _FIELDS
    if unknown:
        raise TypeError(f"an audit event has no field {', '.join(sorted(unknown))}")
    if name in TYPED_NAME_EVENTS and "name" in values:
        raise TypeError(f"{name} takes what was typed as typed_name, with typed_name_known")
    known = values.pop("typed_name_known", False)
    if "typed_name" in values and known is not True:
        values["typed_name"] = UNKNOWN_NAME
    members = "".join(f',"{field}":{_value(field, value)}' for field, value in values.items())
    return f'"kind":"event","event":"{EventName(name).value}","time":"{stamp(time)}"{members}'.encode("ascii")


def redact_path(target: str, secret: Sequence[int] = ()) -> str:
    """The path of a request target: no query, no fragment, secret segments replaced.

    Our tokens and one-time links are replaced wherever they stand: a link that was copied with a slip leads to an
    address without a secret segment.
    """
    if "?" in target or "#" in target:
        target = target.partition("?")[0].partition("#")[0]
    if "gwt_" in target or "gwe_" in target:
        target = _TOKEN.sub(SECRET_MARK, target)
    if not secret:
        return target
    segments = target.split("/")
    for position in secret:
        # Position 0 follows the leading slash.
        if position + 1 < len(segments):
            segments[position + 1] = SECRET_MARK
    return "/".join(segments)


def stamp(time: float) -> str:
    """The same text as `clock.isoformat`, at a third of its cost: the calendar is asked once a second."""
    microseconds = int(time * 1_000_000 + 0.5)
    return f"{_second(microseconds // 1_000_000).decode('ascii')}{microseconds % 1_000_000:06d}Z"


@lru_cache(maxsize=4)
def _second(second: int) -> bytes:
    return isoformat(second)[:20].encode("ascii")


@lru_cache(maxsize=4096)
def _member(name: str, value: str) -> bytes:
    return f',"{name}":{_text(value)}'.encode("ascii")


def _text(value: str | None, cap: int = TEXT_CAP) -> str:
    if value is None:
        return "null"
    if len(value) > cap:
        value = f"{value[:cap]}<cut {len(value) - cap}>"
    quoted = quote(value)
    if "\\ud" in quoted:
        # Half a surrogate pair is no text for most readers (RFC 8259, 8.2); whole pairs come through unchanged.
        quoted = quote(value.encode("utf-8", "replace").decode())
    return quoted


@lru_cache(maxsize=4096)
def _word(value: str | None) -> str:
    """The same for what many records say: a method, a host, a client. Nine of them cost 4 µs a record otherwise."""
    return _text(value)


def _texts(values: Sequence[str]) -> str:
    return f"[{','.join(map(_text, values))}]"


def _credential(credential: Credential) -> str:
    return f'{{"kind":{_text(credential.kind)},"id":{_text(credential.id or None)}}}'


def _value(field: str, value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int():
            return str(int(value))
        case float() if isfinite(value):
            return repr(value)
        case str() if field == "path":
            return _text(redact_path(value), PATH_CAP)
        case str():
            return _text(value)
        case Credential():
            return _credential(value)
        case list() | tuple() if all(isinstance(each, str) for each in value):
            return _texts(value)
        case dict() if all(isinstance(name, str) and type(count) is int for name, count in value.items()):
            return f"{{{','.join(f'{_text(name)}:{count}' for name, count in value.items())}}}"
    raise TypeError(f"{type(value).__name__} in {field!r} may not be recorded")


def member(record: Mapping[str, object], name: str) -> str | None:
    """A text member of a record that was read back, or None."""
    value = record.get(name)
    return value if isinstance(value, str) else None
