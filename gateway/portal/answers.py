"""What a page's handler returns. Values only: `app` turns them into HTTP, `headers` dresses them."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from gateway.portal.guard import Guard


@dataclass(frozen=True, slots=True)
class Page:
    """A template with what it needs. `alert` is what went wrong, in the reader's words; empty if nothing did."""

    template: str
    context: Mapping[str, object] = field(default_factory=dict)
    status: int = 200
    alert: str = ""
    cookies: tuple[str, ...] = ()
    """Whole `Set-Cookie` values."""
    headers: Mapping[str, str] = field(default_factory=dict)
    form: Guard | None = None
    """What the form on it is proven with; None: there is none."""
    leads_to: str = ""
    """The application host that this form ends up at, by redirects."""


@dataclass(frozen=True, slots=True)
class Redirect:
    """303: whatever was sent, the browser comes with a GET."""

    location: str
    cookies: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Document:
    """Bytes that are not a page of ours: JSON, a style sheet, a picture."""

    body: bytes
    content_type: str
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Fault:
    """Nothing was done. `faults.WORDS` says it; a program is told in JSON (RFC 9457)."""

    status: int
    retry_after: int | None = None
    """Seconds."""
    headers: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)
    """For programs only: further members of the problem."""


Answer = Page | Redirect | Document | Fault
