"""The security headers of every answer of the portal, errors included.

Law: what a page does not need is refused. No page carries an inline script or style, so an injected one never runs; the
only script there is (`static/reveal.js`) is admitted on the pages that have a password field, on the login host, whose
every byte is ours.

`form-action` names where a form may *end*: Chromium applies it to the redirects after the POST as well, and a sign-in
ends at an application's host. So the two pages of a sign-in, and no others, admit the hosts of our domain and the one
host that the sealed request names. An application that redirects a fresh sign-in on to a foreign host is stopped there
by Chromium; the sign-in itself is done by then.

`Referrer-Policy` can't be `no-referrer` where there is a form: it turns `Origin` into `null` on the POST (Fetch,
"append a request Origin header"), and workers refuse what comes from another origin. `strict-origin` keeps the path of
an enrolment link, which is a secret, out of `Referer` and leaves `Origin` whole.
"""

from collections.abc import Mapping
from typing import Literal

Referrer = Literal["same-origin", "strict-origin", "no-referrer"]

DOCUMENT_POLICY = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

EVERYWHERE: Mapping[str, str] = {
    # Else aiohttp and Python would tell their versions (ASVS 13.4.6).
    "Server": "btb-gateway",
    "Cache-Control": "no-store",
    "Content-Security-Policy": DOCUMENT_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": ", ".join(
        f"{feature}=()"
        for feature in (
            "accelerometer",
            "autoplay",
            "browsing-topics",
            "camera",
            "display-capture",
            "geolocation",
            "gyroscope",
            "microphone",
            "midi",
            "payment",
            "screen-wake-lock",
            "serial",
            "usb",
        )
    ),
}

"""Unless an answer says otherwise itself."""


def page_policy(forms_lead_to: tuple[str, ...] = (), *, has_script: bool = False) -> str:
    """The Content-Security-Policy of a page: `forms_lead_to` are origins that its forms may end at, beside its own."""
    directives = [
        "default-src 'none'",
        "style-src 'self'",
        "img-src 'self'",
        *(["script-src 'self'", "require-trusted-types-for 'script'"] if has_script else []),
        " ".join(("form-action 'self'", *forms_lead_to)),
        "base-uri 'none'",
        "frame-ancestors 'none'",
    ]
    return "; ".join(directives)
