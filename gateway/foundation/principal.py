"""Who a request comes from. Frozen: a change of grants makes a new Principal, so cached ones compare by `is`."""

from dataclasses import dataclass, field
from typing import Literal

CredentialKind = Literal["none", "session", "token"]


@dataclass(frozen=True, slots=True, order=True)
class Grant:
    """`role@tenant`; tenant is a tenant's name, `*` (every customer) or `-` (BTB's own applications)."""

    role: str
    tenant: str
    until: float | None = None
    """Unix seconds at which it ends by itself."""

    def __str__(self) -> str:
        return f"{self.role}@{self.tenant}"

    @classmethod
    def parse(cls, text: str) -> "Grant":
        """`support@acme`; raises ValueError with a message for the user."""
        role, separator, tenant = text.partition("@")
        if not separator or not role or not tenant or "@" in tenant:
            raise ValueError(f"{text!r} is not a grant: write ROLE@TENANT, ROLE@* or ROLE@-")
        return cls(role, tenant)


@dataclass(frozen=True, slots=True)
class Credential:
    """How the identity was proven: a browser session or a service token, and its public id (never the secret)."""

    kind: CredentialKind
    id: str = ""


@dataclass(frozen=True, slots=True)
class Principal:
    """A person, a service account, or nobody (`ANONYMOUS`)."""

    id: str
    """Stable, never reused; empty for nobody."""
    name: str
    home: str
    """Home tenant, or `-`."""
    grants: frozenset[Grant]
    credential: Credential
    session: str = ""
    """Id of the parent session (not the cookie)."""
    amr: tuple[str, ...] = ()
    """RFC 8176 values: `pwd`, `otp`, …"""
    auth_time: float = 0.0
    otp_time: float | None = None
    """Unix seconds of the last one-time code of this session; None if there was none (service tokens)."""
    until: float | None = None
    """Unix seconds at which the credential itself ends (absolute life of the session, expiry of the token)."""
    applications: frozenset[str] | None = None
    """A service token can be limited to applications by name; None: no limit."""
    version: int = field(default=0)
    """Position in the change feed at which this was read; with `id` and credential it keys caches."""

    @property
    def is_anonymous(self) -> bool:
        return not self.id

    @property
    def is_service(self) -> bool:
        return self.credential.kind == "token"


ANONYMOUS = Principal(id="", name="", home="-", grants=frozenset(), credential=Credential("none"))
