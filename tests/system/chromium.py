"""A real Chromium, which trusts the key of one gateway's certificate and notes down whatever it complains about."""

import base64
import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Playwright, Response

from .people import Person
from .wire import Line

EXECUTABLE = "/usr/bin/chromium"
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
    "--no-first-run",
    "--host-resolver-rules=MAP *.localhost 127.0.0.1",
)
SECONDS = 15.0
REPORT_VIOLATIONS = """
document.addEventListener("securitypolicyviolation", (event) =>
  console.error(`policy violation: ${event.effectiveDirective} ${event.blockedURI}`));
"""


def key_of(port: int, ca: Path, host: str) -> str:
    """The key that is behind a port, after its certificate was found to be from `ca` and for `host`."""
    with Line(port, ca, host) as line:
        certificate = x509.load_der_x509_certificate(line.socket.getpeercert(binary_form=True) or b"")
    key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(hashlib.sha256(key).digest()).decode()


@contextlib.contextmanager
def chromium(playwright: Playwright, key: str) -> Iterator[Browser]:
    """It takes certificates with this key as good and no others, so that TLS is for it what it is for any visitor."""
    trust = f"--ignore-certificate-errors-spki-list={key}"
    with playwright.chromium.launch(executable_path=EXECUTABLE, args=[*ARGUMENTS, trust]) as browser:
        yield browser


@dataclass
class Visitor:
    """A browser profile of its own: its cookies, its cache, its tabs."""

    context: BrowserContext
    complaints: list[str] = field(default_factory=list)
    """Errors of scripts, of the console and of policies, and parts of pages that could not be had."""

    def open(self, url: str) -> Page:
        page = self.context.new_page()
        page.goto(url)
        return page

    def take_complaints(self) -> list[str]:
        taken, self.complaints = self.complaints, []
        return taken

    def cookies(self, url: str) -> dict[str, Any]:
        return {cookie["name"]: cookie for cookie in self.context.cookies(url)}

    def _hear(self, message: ConsoleMessage) -> None:
        # A page that is refused is "failed to load" too: `_see` tells such pages from parts of a page.
        if message.type in ("error", "warning") and not message.text.startswith("Failed to load resource"):
            self.complaints.append(message.text)

    def _see(self, response: Response) -> None:
        if response.status >= 400 and response.request.resource_type != "document":
            self.complaints.append(f"{response.status} {response.url}")


@contextlib.contextmanager
def visitor(browser: Browser, **options: Any) -> Iterator[Visitor]:
    """`options` as for `Browser.new_context`."""
    with browser.new_context(**options) as context:
        context.set_default_timeout(SECONDS * 1000)
        context.add_init_script(REPORT_VIOLATIONS)
        visitor = Visitor(context)
        context.on("console", visitor._hear)
        context.on("response", visitor._see)
        context.on("weberror", lambda error: visitor.complaints.append(str(error.error)))
        yield visitor


def sign_in(page: Page, person: Person, url: str) -> None:
    """By way of an address that asks for it, and back to there."""
    page.goto(url)
    page.get_by_label("User name").fill(person.name)
    page.get_by_label("Password", exact=True).fill(person.password)
    page.get_by_role("button", name="Continue").click()
    page.get_by_label("Code from your authenticator app").fill(person.authenticator.code())
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(url)
