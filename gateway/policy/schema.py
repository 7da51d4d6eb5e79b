"""The shape of the policy file (CONTRACT 3): what can be written, with its defaults, and the mistakes that show in one
place. What takes two places of the file to see is in `problems`.

Unknown keys are errors everywhere, and no value is converted: `"5"` is no number and `1` is no text.
"""

from collections.abc import Callable, Mapping
from datetime import time
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    Strict,
    StringConstraints,
    ValidationInfo,
)
from pydantic import model_validator as validates_model

from gateway.foundation.addresses import Address, Network, parse_address, parse_network
from gateway.foundation.durations import parse_duration
from gateway.foundation.principal import CredentialKind, Grant
from gateway.foundation.secret import Secret
from gateway.foundation.sizes import parse_size
from gateway.policy.endpoints import (
    CLIENTS_HOST,
    Upstream,
    parse_domain,
    parse_host,
    parse_host_header,
    parse_origin,
    parse_upstream,
)
from gateway.policy.headers import parse_request_header, parse_response_header, parse_value, value_of
from gateway.policy.path import Encoded
from gateway.policy.pattern import Pattern, Segment, parse_added, parse_pattern, parse_prefix
from gateway.policy.rates import Counted, Rate, RateLimit, parse_rate
from gateway.policy.reasons import DECIDED, Reason, Verdict
from gateway.policy.values import (
    RequestLine,
    Zone,
    parse_grant,
    parse_instant,
    parse_name,
    parse_request,
    parse_tenant,
    parse_time,
    parse_word,
    parse_zone,
)

Value = TypeVar("Value")
Item = TypeVar("Item")


def _read(parse: Callable[[str], Value]) -> PlainValidator:
    """A value that is written as text and read by `parse`, whose ValueError is the message."""

    def validate(value: object) -> Value:
        if not isinstance(value, str):
            raise ValueError(f"{value!r} must be a text; put it in quotes")
        return parse(value)

    return PlainValidator(validate)


def _list(value: object) -> object:
    if not isinstance(value, list | tuple):
        raise ValueError(f"{value!r} must be a list: write it in [ ], or one item a line after '- '")
    return value


def _filled(value: object) -> object:
    if not _list(value):
        raise ValueError("the list is empty")
    return value


# A YAML sequence arrives as a list, which strict validation would not take for a tuple; its items stay strict.
Items = Annotated[tuple[Item, ...], Strict(False), BeforeValidator(_list)]
Some = Annotated[tuple[Item, ...], Strict(False), BeforeValidator(_filled)]

Name = Annotated[str, _read(parse_name)]
Word = Annotated[str, _read(parse_word)]
Sentence = Annotated[str, StringConstraints(min_length=1, max_length=500, strip_whitespace=True)]
Seconds = Annotated[int, PlainValidator(parse_duration)]
Bytes = Annotated[int, PlainValidator(parse_size)]
Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]


def _method(text: str) -> str:
    """RFC 9110 9.1: methods are case-sensitive."""
    if text == "HEAD":
        raise ValueError("HEAD follows GET: write GET alone")
    if text in ("CONNECT", "TRACE"):
        raise ValueError(f"{text} is never forwarded")
    if not (text.isascii() and text.replace("-", "").isalpha() and text == text.upper()):
        raise ValueError(f"{text!r} is no method: write it in capitals, like {text.upper()!r}")
    return text


Method = Annotated[str, AfterValidator(_method)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, arbitrary_types_allowed=True)


class Role(Section):
    permissions: Items[Word]


class Hours(Section):
    """A window on some days of the week. One that ends at or before its beginning ends on the next day."""

    days: Some[Day]
    begin: Annotated[time, _read(parse_time)] = Field(alias="from")
    end: Annotated[time, _read(parse_time)] = Field(alias="to")
    timezone: Annotated[Zone, _read(parse_zone)]


class Restrict(Section):
    """Narrows a route or an application; nothing here can open one."""

    addresses: Some[Annotated[Network, _read(parse_network)]] | None = None
    hours: Some[Hours] | None = None
    credential: Some[Literal["session", "token"]] | None = None

    @validates_model(mode="after")
    def _says_something(self) -> Self:
        if self.addresses is None and self.hours is None and self.credential is None:
            raise ValueError("an empty restrict restricts nothing: give addresses, hours or credential")
        return self


class Allow(Section):
    """`public`, `authenticated`, or a mapping; the words stand for `{public: true}` and `{authenticated: true}`."""

    public: Literal[True] | None = None
    authenticated: Literal[True] | None = None
    permission: Word | None = None
    all_of: Some["Allow"] | None = None
    any_of: Some["Allow"] | None = None
    otp_within: Seconds | None = None

    @validates_model(mode="before")
    @classmethod
    def _word(cls, value: Any) -> Any:
        if value in ("public", "authenticated"):
            return {value: True}
        if not isinstance(value, dict | Allow):
            raise ValueError(
                f"{value!r} is no rule: write public, authenticated, {{permission: …}}, {{all_of: […]}} or "
                "{any_of: […]}"
            )
        return value

    @validates_model(mode="after")
    def _one_thing(self) -> Self:
        said = [name for name in ("public", "authenticated", "permission", "all_of", "any_of") if getattr(self, name)]
        if len(said) > 1:
            raise ValueError(f"{' and '.join(said)} can't stand in one rule: put them into all_of or any_of")
        if not said and self.otp_within is None:
            raise ValueError("an empty rule says nothing: write public, authenticated, permission, all_of or any_of")
        if self.public and self.otp_within is not None:
            raise ValueError("public needs no identity, so it can't ask for a code: write authenticated")
        if any(rule.public for rule in (*(self.all_of or ()), *(self.any_of or ()))):
            raise ValueError("public stands alone: it can't be combined with other rules")
        return self


class Rates(Section):
    """How many requests are let through, and for each of whom that is counted."""

    client: Annotated[Rate, _read(parse_rate)] | None = None
    identity: Annotated[Rate, _read(parse_rate)] | None = None
    tenant: Annotated[Rate, _read(parse_rate)] | None = None
    all: Annotated[Rate, _read(parse_rate)] | None = None

    @validates_model(mode="after")
    def _says_something(self) -> Self:
        if not self.limits(""):
            raise ValueError("an empty rate limits nothing: give client, identity, tenant or all")
        return self

    def limits(self, scope: str) -> tuple[RateLimit, ...]:
        rates: dict[Counted, Rate | None] = {counted: getattr(self, counted) for counted in Counted}
        return tuple(RateLimit(scope, counted, rate) for counted, rate in rates.items() if rate is not None)


RequestHeader = Annotated[str, _read(parse_request_header)]
ResponseHeader = Annotated[str, _read(parse_response_header)]


def _header_value(written: object, info: ValidationInfo) -> str | Secret[str]:
    return value_of(written, (info.context or {}).get("secret_of"))


HeaderValue = Annotated[str | Secret[str], PlainValidator(_header_value)]
Text = Annotated[str, _read(parse_value)]


class Rules(Section):
    """Of the headers of one direction. The value of each that is `set` replaces whatever the other side wrote."""

    @validates_model(mode="after")
    def _each_once(self) -> Self:
        names = [name.lower() for name in (*self.given, *self.remove)]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"{', '.join(twice)}: set or remove each once; what is set replaces what was there")
        if not names:
            raise ValueError("no rules: give set or remove")
        return self

    given: Mapping[str, str | Secret[str]]
    remove: tuple[str, ...]


class RequestRules(Rules):
    given: dict[RequestHeader, HeaderValue] = Field(alias="set", default_factory=dict)
    """A value can be a secret: `context["secret_of"]` says what is there (`headers.SecretOf`)."""
    remove: Items[RequestHeader] = ()


class ResponseRules(Rules):
    given: dict[ResponseHeader, Text] = Field(alias="set", default_factory=dict)
    remove: Items[ResponseHeader] = ()


def _some_time(seconds: int) -> int:
    if seconds < 1:
        raise ValueError("0s is over before anything could happen: write 1s or more")
    return seconds


Limit = Annotated[Seconds, AfterValidator(_some_time)]


class Timeouts(Section):
    """In place of those in the settings."""

    upstream_head: Limit | None = None
    """For the head of the application's answer."""
    upstream_body: Limit | None = None
    """For the next bytes of a body, from the application or to it."""
    total: Limit | None = None
    """For the whole exchange, WebSockets and event streams included."""


class Limits(Section):
    body: Bytes | None = None
    """Of one request."""


class Carried(Section):
    """How requests are carried to the application, and its answers back; a route's word counts, then its
    application's."""

    strip_prefix: Annotated[tuple[Segment, ...], _read(parse_prefix)] | None = None
    """Segments that the application does not see; every pattern begins with them."""
    add_prefix: Annotated[bytes, _read(parse_added)] | None = None
    """What stands before the rest of the path."""
    request_headers: RequestRules | None = None
    response_headers: ResponseRules | None = None
    timeouts: Timeouts = Timeouts()
    limits: Limits = Limits()
    maintenance: Literal[False] | Sentence | None = None
    """What visitors are told instead of being served; `false` on a route that is served all the same."""

    @property
    def has_terms(self) -> bool:
        return not self.model_fields_set.isdisjoint(Carried.model_fields)


class Route(Carried):
    path: Annotated[Pattern, _read(parse_pattern)]
    methods: Some[Method]
    allow: Allow
    why: Sentence | None = None
    """For whoever reads the file; a public route must say it."""
    tenant: Annotated[str, _read(parse_tenant)] | None = None
    restrict: Restrict | None = None
    encoded: Items[Encoded] = ()
    """Which of `%2F`, `%5C` and `;` the route takes."""
    rate: Rates | None = None
    isolate: Literal["tenant"] | None = None
    """Connections to the application that carry such requests serve one customer only."""

    @validates_model(mode="after")
    def _public_says_why(self) -> Self:
        if self.allow.public and not self.why:
            raise ValueError("a public route says why it may be: add why: '…'")
        return self


class Cors(Section):
    origins: Some[Annotated[str, _read(parse_origin)]]


def _probe_path(text: str) -> str:
    if not text.startswith("/") or not text.isascii() or not text.isprintable() or set(text) & set(" #"):
        raise ValueError(f"{text!r} is no path to ask for: write one like /healthz")
    return text


class Health(Section):
    """A request that each worker sends to each upstream; one that fails twice is passed over until it passes twice."""

    path: Annotated[str, AfterValidator(_probe_path)]
    """Answered with 2xx or 3xx by an upstream that is well."""
    every: Seconds = 10
    timeout: Seconds = 2


class Application(Carried):
    name: Name
    host: Annotated[str, _read(parse_host)]
    upstream: Some[Annotated[Upstream, _read(parse_upstream)]]
    host_header: Annotated[str, _read(parse_host_header)] = CLIENTS_HOST
    """The Host that it gets: the client's, the upstream's, or a name."""
    health: Health | None = None
    routes: Some[Route]
    tenant: Annotated[str, _read(parse_tenant)] | None = None
    case: Literal["exact", "fold"] = "exact"
    restrict: Restrict | None = None
    rate: Rates | None = None
    """Of all its routes together."""
    cors: Cors | None = None
    origins: Items[Annotated[str, _read(parse_origin)]] = ()
    """Other origins whose pages may send requests that carry a cookie and change state, or open a WebSocket."""
    cookie_domains: Items[Annotated[str, _read(parse_domain)]] = ()
    """Domains that the application's own cookies may name."""


class Identity(Section):
    """Who asks, in a policy test or on the command line; `anonymous` stands for `{credential: none}`."""

    grants: Items[Annotated[Grant, _read(parse_grant)]] = ()
    otp_age: Seconds | None = None
    credential: CredentialKind = "session"
    address: Annotated[Address, _read(parse_address)] | None = None
    at: Annotated[float, _read(parse_instant)] | None = None
    """Unix seconds."""
    applications: Some[Name] | None = None
    """Those that a service token is limited to."""

    @validates_model(mode="before")
    @classmethod
    def _nobody(cls, value: Any) -> Any:
        if value == "anonymous":
            return {"credential": "none"}
        if not isinstance(value, dict | Identity):
            raise ValueError(f"{value!r} is nobody we know: write anonymous, or {{grants: [ROLE@TENANT]}}")
        return value

    @validates_model(mode="after")
    def _is_possible(self) -> Self:
        if self.credential == "none" and (self.grants or self.otp_age is not None):
            raise ValueError("nobody (credential: none) holds no grants and has given no code")
        if self.credential == "token" and self.otp_age is not None:
            raise ValueError("a service token has given no code: otp_age belongs to a session")
        if self.credential != "token" and self.applications is not None:
            raise ValueError("only a service token is limited to applications: add credential: token")
        return self


def _one_of(text: str, known: list[str]) -> str:
    if text not in known:
        raise ValueError(f"{text!r} is none of {', '.join(known)}")
    return text


def parse_verdict(text: str) -> Verdict:
    return Verdict(_one_of(text, [verdict.value for verdict in Verdict]))


def parse_reason(text: str) -> Reason:
    return Reason(_one_of(text, sorted(reason for reasons in DECIDED.values() for reason in reasons)))


class Expectation(Section):
    request: Annotated[RequestLine, _read(parse_request)]
    verdict: Annotated[Verdict, _read(parse_verdict)] = Field(alias="is")
    because: Annotated[Reason, _read(parse_reason)] | None = None

    @validates_model(mode="after")
    def _reason_fits(self) -> Self:
        if self.because is not None and self.because not in DECIDED[self.verdict]:
            fitting = ", ".join(sorted(DECIDED[self.verdict]))
            raise ValueError(f"is: {self.verdict} never happens because of {self.because}, but of: {fitting}")
        return self


class Case(Section):
    name: Sentence
    identity: Identity = Field(alias="as")
    expect: Some[Expectation]


class PolicyFile(Section):
    version: Literal[1] = 1
    permissions: Items[Word] = ()
    roles: dict[Word, Role] = Field(default_factory=dict)
    applications: Items[Application] = ()
    tests: Items[Case] = ()
