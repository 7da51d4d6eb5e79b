"""What a request must be like to be read at all."""

from unittest.mock import Mock

import pytest
from aiohttp.streams import StreamReader
from aiohttp.test_utils import make_mocked_request

from gateway.portal.visit import BadVisit, prefers_json, read_visit, visible

from .house import LOGIN, House

WORKER = {"X-Forwarded-Host": f"{LOGIN}:8443", "X-Forwarded-For": "192.0.2.7"}
FORM = {**WORKER, "Content-Type": "application/x-www-form-urlencoded"}


@pytest.mark.parametrize(
    ("method", "target", "headers", "body", "status"),
    [
        ("GET", "/sign-in", {}, b"", 400),
        ("GET", "/sign-in", {"X-Forwarded-Host": LOGIN}, b"", 400),
        ("GET", "/sign-in", {"X-Forwarded-For": "192.0.2.7"}, b"", 400),
        ("GET", "/sign-in", {**WORKER, "X-Forwarded-For": "192.0.2.7, 10.0.0.1"}, b"", 400),
        ("GET", "/sign-in", {**WORKER, "X-Forwarded-Host": "login.btb.localhost."}, b"", 400),
        ("GET", "/sign-in", {**WORKER, "X-Forwarded-Host": "login.btb.localhost.evil.example"}, b"", 404),
        ("GET", "/sign-in", {**WORKER, "Cookie": "__Host-gateway-sign-in=a; __Host-gateway-sign-in=b"}, b"", 400),
        ("GET", "/sign-in", {**WORKER, "Cookie": "=__Host-gateway-sign-in=a"}, b"", 400),
        ("GET", "/sign-in?request=a&request=b", WORKER, b"", 400),
        ("GET", "/sign-in?request=%ff", WORKER, b"", 400),
        ("GET", "/sign-in?" + "&".join(f"a{n}=1" for n in range(40)), WORKER, b"", 400),
        ("POST", "/sign-in", {**WORKER, "Content-Type": "application/json"}, b"{}", 400),
        ("POST", "/sign-in", {**WORKER, "Content-Type": "multipart/form-data; boundary=x"}, b"--x--", 400),
        ("POST", "/sign-in", FORM, b"username=a&username=b", 400),
        ("POST", "/sign-in", FORM, b"username=%ff", 400),
        ("POST", "/sign-in", FORM, b"username=\xc3\xa9", 400),
        ("POST", "/sign-in", FORM, b"a=" + b"x" * 20_000, 413),
        ("POST", "/sign-in", FORM, b"", 403),
    ],
)
@pytest.mark.advisory("CVE-2024-52289", "CVE-2025-53643")
@pytest.mark.requirement("ASVS 15.3.7")
async def test_hostile_requests(
    house: House, method: str, target: str, headers: dict[str, str], body: bytes, status: int
) -> None:
    answered = await house.worker.client.request(method, target, headers=headers, data=body, allow_redirects=False)
    assert answered.status == status
    assert answered.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.advisory("CVE-2025-71402")
@pytest.mark.requirement("ASVS 7.2.1", "ASVS 13.2.1")
async def test_an_assertion_that_is_not_ours_is_nobody(house: House) -> None:
    for forged in ("", "x.y.z", house.assertion_for("somebody.else"), house.expired_assertion()):
        headers = {**WORKER, "X-Gateway-Assertion": forged}
        answered = await house.worker.client.get("/.gateway/whoami", headers=headers)
        assert answered.status == 401, forged


async def test_who_leaves_within_a_form_is_no_fault_of_ours(house: House) -> None:
    """Else each connection that a stranger drops would write a page of our log."""
    payload = StreamReader(Mock(), 2**16)
    payload.set_exception(ConnectionResetError("Connection lost"))
    request = make_mocked_request("POST", "/sign-in", headers=FORM, payload=payload)
    with pytest.raises(BadVisit):
        await read_visit(request, house.services.verifier)


async def test_a_request_id_is_shown_only_if_it_looks_like_one(house: House) -> None:
    headers = {**WORKER, "X-Request-Id": "<b>x</b>", "Accept": "text/html"}
    answered = await house.worker.client.get("/nothing", headers=headers)
    assert "unknown" in await answered.text()


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        ("Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0", "Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0"),
        ("Navigateur d’Élodie", "Navigateur d’Élodie"),
        # Bytes that are no UTF-8: a store can't keep half a surrogate pair, and the sign-in would end in a fault.
        ("Mozilla \udcff\udc9b", "Mozilla \ufffd\ufffd"),
        # What would speak to the terminal of whoever lists sessions, or turn its line around.
        ("\x9b2J\u202ex", "\ufffd2J\ufffdx"),
    ],
)
def test_a_browser_is_known_by_what_can_be_seen(sent: str, shown: str) -> None:
    assert visible(sent) == shown


@pytest.mark.parametrize(
    ("accept", "is_json"),
    [
        ("", True),
        ("*/*", True),
        ("application/json", True),
        ("application/json, text/html", True),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", False),
        ("text/html, application/json", False),
        ("TEXT/HTML", False),
    ],
)
def test_programs_get_json_and_browsers_pages(accept: str, is_json: bool) -> None:
    assert prefers_json(accept) is is_json
