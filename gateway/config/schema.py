"""What `gateway.yaml` can say (CONTRACT 2): one class for each section, defaults in the type.

Frozen and complete: every option has its value here, so no reader has a default of its own. Durations are seconds,
sizes are bytes, paths are absolute.
"""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, ValidationInfo, field_validator, model_validator

from gateway.config.translate import wrong
from gateway.config.values import (
    Bytes,
    Domain,
    EnvironmentName,
    Https,
    Listen,
    ListenAddress,
    NodeName,
    Peers,
    PlacedPath,
    Seconds,
    Syslog,
    UserName,
    parse_store,
    parse_version,
    parse_workers,
    within,
)

_HTTPS_PORT = 443


class Section(BaseModel):
    """Unknown keys are errors, nothing is converted, nothing changes after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)


class SecretSource(Section):
    """Where a secret is: in a file or in an environment variable, never in the settings."""

    file: PlacedPath | None = None
    """A file with the secret alone in it; a line end after it doesn't count."""
    env: EnvironmentName | None = None
    """An environment variable that holds it."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.file is None) == (self.env is None):
            raise wrong("needs one of file and env", hint="for example {file: /etc/btb/key}")
        return self


class ProxiedSection(Section):
    """One more address for all traffic, for balancers: here the PROXY protocol is mandatory, elsewhere an error."""

    address: Listen
    """Where balancers connect to."""
    trusted: Peers = Field(alias="from")
    """Addresses or networks of the balancers: nobody else may connect. What they say of a client is recorded and
    counted, and believed by restrictions of addresses."""


class ListenSection(Section):
    """The addresses that the gateway answers on."""

    https: Listen = ListenAddress("0.0.0.0", 8443)  # noqa: S104 - a reverse proxy is there to be reached.
    """All traffic."""
    http: Listen = ListenAddress("0.0.0.0", 8080)  # noqa: S104 - as above.
    """Answers only with redirects to https."""
    ops: Listen = ListenAddress("127.0.0.1", 9464)
    """Health and metrics over HTTPS; loopback only."""
    proxied: ProxiedSection | None = None

    # A validator of the field, so that it is told beside what is wrong with the others.
    @field_validator("ops")
    @classmethod
    def _is_local(cls, ops: ListenAddress) -> ListenAddress:
        if not ops.address.is_loopback:
            hint = "write 127.0.0.1:PORT or [::1]:PORT; a scraper on another machine goes through the gateway"
            raise wrong("answers on this machine only", hint=hint)
        return ops

    @model_validator(mode="after")
    def _apart(self) -> Self:
        for name, address in (*self.of_workers.items(), ("ops", self.ops)):
            for other, taken in self.of_workers.items():
                if name == other:
                    break
                if address.collides_with(taken):
                    raise wrong(f"port {address.port} is taken by listen.{other}", name, "give each listener its own")
        return self

    @property
    def of_workers(self) -> dict[str, ListenAddress]:
        """Where each worker listens, by name."""
        found = {"https": self.https, "http": self.http}
        return found if self.proxied is None else {**found, "proxied": self.proxied.address}


class Certificate(Section):
    """A certificate, for the names in it."""

    certificate: PlacedPath
    """PEM: the certificate, then its intermediates."""
    private_key: PlacedPath
    """PEM, not encrypted, readable by the gateway only."""


class TLSSection(Section):
    """How the gateway proves itself to clients, and applications to the gateway."""

    local_ca: bool = False
    """Development: an own CA, written to <state_dir>/ca.pem, signs a certificate for each host."""
    certificates: tuple[Certificate, ...] = ()
    """The certificates of a real installation."""
    upstream_ca: PlacedPath | None = None
    """PEM: roots that applications' certificates may come from, beside those of the system."""
    upstream_certificate: Certificate | None = None
    """Our own, for applications that ask who we are (mTLS)."""

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if self.local_ca == bool(self.certificates):
            raise wrong("needs one of local_ca: true and certificates", hint="local_ca is for development")
        return self


class SessionsSection(Section):
    """How long a sign-in lasts. NIST SP 800-63B-4 (2.2.3, AAL2): 1 h idle as we have it, 24 h in all at most."""

    idle: Annotated[Seconds, within("1m", "24h")] = 3600
    """Ends when nothing was asked for this long."""
    absolute: Annotated[Seconds, within("1m", "24h")] = 12 * 3600
    """Ends this long after the sign-in, whatever happens."""

    @model_validator(mode="after")
    def _idle_within_absolute(self) -> Self:
        if self.idle > self.absolute:
            raise wrong("is longer than sessions.absolute", "idle", "idle time can't outlast the session")
        return self


class LimitsSection(Section):
    """What is admitted at once; beyond it the answer is 503, or 413 for a body."""

    connections: Annotated[int, Field(ge=16, le=100_000)] = 4096
    """Client connections of one worker."""
    client_connections: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """Of these, one client's (an IPv4 address, or the /64 of an IPv6 one). By default a quarter."""
    requests: Annotated[int, Field(ge=1, le=100_000)] = 1024
    """Requests in flight of one worker."""
    client_requests: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """Of these, one client's who has not signed in. By default an eighth."""
    identity_connections: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """Connections of one worker that one person or service account uses, from wherever. By default a quarter of
    `requests`."""
    upstream_connections: Annotated[int, Field(ge=1, le=100_000)] = 1024
    """Connections of one worker to one upstream of an application, busy and idle ones: Envoy's default for a cluster,
    twice nginx's for a whole worker. Requests wait for a place; 503 beyond."""
    strangers: Annotated[int, Field(ge=1, le=100_000_000)] = 20_000
    """Requests that one client who has not signed in has let through in a minute, by all workers; 429 beyond."""
    body: Bytes = 1 << 30
    """Body of one request."""
    body_rate: Annotated[int, Field(ge=1, le=1 << 20)] = 500
    """Bytes a second that whoever sends a body has to keep up, or the answer is 408: waiting uses up `timeouts.body`,
    and this many bytes win a second of it back."""


class TimeoutsSection(Section):
    """How long we wait. A WebSocket or event stream in use has no limit but its session's."""

    head: Annotated[Seconds, within("1s", "5m")] = 10
    """For a whole request head, from its first byte; 408 then. A connection that says nothing at all is closed."""
    idle: Annotated[Seconds, within("1s", "1h")] = 75
    """For the next request on a connection."""
    body: Annotated[Seconds, within("1s", "1h")] = 60
    """For the next bytes of a body, either way; see also `limits.body_rate`. 408 for the client's."""
    upstream_connect: Annotated[Seconds, within("1s", "5m")] = 5
    """For the connection to an application, TLS included."""
    upstream_head: Annotated[Seconds, within("1s", "1h")] = 60
    """For the head of an application's answer."""
    drain: Annotated[Seconds, within("1s", "1h")] = 20
    """For running exchanges when a worker is retired."""


class SnapshotsSection(Section):
    """Encrypted copies of the store under <state_dir>/snapshots."""

    every: Annotated[Seconds, within("1m", "30d")] = 24 * 3600
    """Time between two."""
    keep: Annotated[int, Field(ge=1, le=1000)] = 7
    """How many; older ones are removed."""


class UsersSection(Section):
    """The operating system's user for each kind of process; needs a start as root. Without it all are one user."""

    worker: UserName
    """Serves requests; reads the store."""
    portal: UserName
    """Signs people in; writes the store."""
    keeper: UserName
    """Signs the journal, makes snapshots; writes the store."""

    @model_validator(mode="after")
    def _apart(self) -> Self:
        if len({self.worker, self.portal, self.keeper}) < 3:
            raise wrong("needs three users", hint="one user for two kinds of process parts nothing")
        return self


class WitnessSection(Section):
    """One of folder, syslog and https: where checkpoints are kept that this node can't change."""

    folder: PlacedPath | None = None
    """A folder of another machine, mounted here: each checkpoint is a file in <folder>/<node>."""
    syslog: Syslog | None = None
    """`tls://host:6514`: number and hash of each checkpoint, as a message of RFC 5424 over TLS (RFC 5425)."""
    https: Https | None = None
    """An address that takes each checkpoint as JSON, in a POST."""
    ca: PlacedPath | None = None
    """PEM: roots that the server's certificate comes from. By default those of the system."""
    certificate: PlacedPath | None = None
    """PEM: our own, for a server that asks for one."""
    private_key: PlacedPath | None = None
    """PEM: the key of that certificate."""
    token: SecretSource | None = None
    """For https: sent with each POST as `Authorization: Bearer`."""

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if sum(each is not None for each in (self.folder, self.syslog, self.https)) != 1:
            raise wrong("needs one of folder, syslog and https", hint="for example {folder: /mnt/witness}")
        if self.token is not None and self.https is None:
            raise wrong("is for https only", "token", "a server of syslog knows us by certificate and private_key")
        for name in ("ca", "certificate", "private_key"):
            if self.folder is not None and getattr(self, name) is not None:
                raise wrong("is for syslog and https", name, "remove it")
        if (self.certificate is None) != (self.private_key is None):
            raise wrong("needs both of certificate and private_key, or none")
        return self

    @property
    def name(self) -> str:
        """In records and metrics."""
        if self.folder is not None:
            return str(self.folder)
        return f"tls://{self.syslog}" if self.syslog is not None else (self.https or "").partition("?")[0]


class AuditSection(Section):
    """The record of what happened."""

    witnesses: tuple[WitnessSection, ...] = ()
    """Where each checkpoint is sent, so that changes by somebody with root here are found."""

    @model_validator(mode="after")
    def _apart(self) -> Self:
        names = [each.name for each in self.witnesses]
        for index, name in enumerate(names):
            if name in names[:index]:
                raise wrong("is there twice", f"witnesses[{index}]", "remove one of them")
        return self


class Settings(Section):
    """The whole of `gateway.yaml`."""

    version: Annotated[Literal[1], PlainValidator(parse_version)] = 1
    """Of this format."""
    domain: Domain
    """login.<domain>, account.<domain> and admin.<domain> are the gateway's own hosts. Not a public suffix like
    `co.uk`: browsers keep no cookie for one, and no sign-in would arrive. Applications are safest on hosts under it."""
    state_dir: PlacedPath = Field(default=Path("./var"), validate_default=True)
    """Store, journal, keys and snapshots. Like every relative path, it counts from the folder of this file."""
    master_key: SecretSource
    """Wraps every other key: 32 random bytes or more, kept outside of state_dir."""
    listen: ListenSection = ListenSection()
    workers: Annotated[int | Literal["auto"], PlainValidator(parse_workers)] = "auto"
    """Processes that serve; auto is one for each core."""
    tls: TLSSection
    policy: PlacedPath = Field(default=Path("policy.yaml"), validate_default=True)
    """Who may do what: roles, applications, routes."""
    store: Annotated[Literal["sqlite"], PlainValidator(parse_store)] = "sqlite"
    """Where people, grants and sessions are: embedded, for one node."""
    sessions: SessionsSection = SessionsSection()
    public_port: Annotated[int, Field(ge=1, le=65535)] | None = None
    """In addresses that we hand out: what clients connect to. By default the port of listen.https."""
    limits: LimitsSection = LimitsSection()
    timeouts: TimeoutsSection = TimeoutsSection()
    snapshots: SnapshotsSection = SnapshotsSection()
    audit: AuditSection = AuditSection()
    node: NodeName | None = None
    """This machine's name in the audit record. By default the host name."""
    users: UsersSection | None = None
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """What is logged: JSON lines on standard error."""

    # A validator of the field, so that it is told beside what is wrong with the others.
    @field_validator("master_key")
    @classmethod
    def _is_apart(cls, source: SecretSource, before: ValidationInfo) -> SecretSource:
        state_dir = before.data.get("state_dir")
        if source.file is not None and state_dir is not None and source.file.is_relative_to(state_dir):
            hint = "whoever copies the state must not get its key: keep it elsewhere, like /etc/btb/key"
            raise wrong("is inside state_dir", hint=hint)
        return source

    @field_validator("audit")
    @classmethod
    def _is_witnessed_elsewhere(cls, audit: AuditSection, before: ValidationInfo) -> AuditSection:
        state_dir = before.data.get("state_dir")
        for index, each in enumerate(audit.witnesses):
            if each.folder is not None and state_dir is not None and each.folder.is_relative_to(state_dir):
                hint = "whoever changes the state must not reach it: mount a folder of another machine"
                raise wrong("is inside state_dir", f"witnesses[{index}].folder", hint)
        return audit

    @property
    def login_host(self) -> str:
        return f"login.{self.domain}"

    @property
    def account_host(self) -> str:
        return f"account.{self.domain}"

    @property
    def admin_host(self) -> str:
        return f"admin.{self.domain}"

    def origin(self, host: str) -> str:
        """`https://host`, with the public port unless it is the usual one."""
        port = self.public_port or self.listen.https.port
        return f"https://{host}" if port == _HTTPS_PORT else f"https://{host}:{port}"
