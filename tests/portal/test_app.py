"""The route table, and what every route has in common."""

import logging

import pytest

from gateway.foundation.errors import JournalUnavailable, StoreUnavailable
from gateway.portal import ROUTES, RULES
from gateway.portal.app import Door

from .house import LOGIN, ORDERS, Browser, House, url

CONCRETE = {"{secret}": "not-a-link", "{version}": "abc", "{name}": "portal.css"}


def concrete(path: str) -> str:
    for placeholder, value in CONCRETE.items():
        path = path.replace(placeholder, value)
    return path


@pytest.mark.requirement("ASVS 3.5.1", "ASVS 3.5.3")
def test_every_post_is_guarded_and_no_get_is() -> None:
    assert all((route.guard is not None) == (route.method == "POST") for route in ROUTES)


def test_what_is_on_every_host_is_under_the_one_prefix() -> None:
    assert all((route.door is Door.ANY) == route.path.startswith("/.gateway/") for route in ROUTES)


def test_the_rules_for_the_policy_name_every_route_once_with_a_reason() -> None:
    paths = [path for path, _, _ in RULES]
    assert len(paths) == len(set(paths))
    assert {route.path for route in ROUTES if route.door is Door.LOGIN} == set(paths) - {"/.gateway/**"}
    assert all(why and set(methods) <= {"GET", "POST"} for _, methods, why in RULES)
    assert ("/enrol/{secret}", ("GET", "POST"), "one-time enrolment link") in RULES


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
@pytest.mark.requirement("ASVS 3.4.3", "ASVS 3.4.4", "ASVS 4.1.1", "ASVS 14.2.2", "ASVS 13.4.6")
async def test_every_answer_carries_the_security_headers(house: House, route: object) -> None:
    method, path = route.method, route.path  # type: ignore[attr-defined]  # parametrize erases the type.
    answered = await house.browser.send(method, url(LOGIN, concrete(path)), {} if method == "POST" else None)
    headers = answered.headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert "base-uri 'none'" in headers["Content-Security-Policy"]
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert headers["Referrer-Policy"] in {"same-origin", "strict-origin", "no-referrer"}
    assert headers["Cross-Origin-Opener-Policy"] == headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert headers["Server"] == "btb-gateway"
    assert "camera=()" in headers["Permissions-Policy"]
    if answered.text:
        assert "charset=utf-8" in headers["Content-Type"]
    if path not in {"/.well-known/jwks.json", "/.gateway/static/{version}/{name}"}:
        assert headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("route", [route for route in ROUTES if route.guard], ids=lambda route: route.path)
@pytest.mark.advisory("CVE-2026-49443")
@pytest.mark.requirement("ASVS 3.5.1", "SP 800-63B-4 5.1")
async def test_no_post_is_acted_on_without_its_proof(house: House, route: object) -> None:
    await house.sign_in()
    path, guard = concrete(route.path), route.guard  # type: ignore[attr-defined]
    recorded = len(house.events)
    other = Browser(house.worker)
    foreign = (await other.get(url(LOGIN, "/sign-in"))).form.fields["csrf"]
    for proof in ({}, {"csrf": ""}, {"csrf": "x" * 43}, {"csrf": foreign}):
        answered = await house.browser.send("POST", url(LOGIN, path), {"username": "anna", "code": "1", **proof})
        assert answered.status == 403, guard
        assert "Nothing was done" in answered.text
    assert len(house.events) == recorded


@pytest.mark.parametrize("path", [route.path for route in ROUTES if route.door is Door.LOGIN])
async def test_the_pages_of_the_login_host_are_on_no_other(house: House, path: str) -> None:
    methods = [route.method for route in ROUTES if route.path == path]
    for method in methods:
        answered = await house.browser.send(method, url(ORDERS, concrete(path)), {} if method == "POST" else None)
        assert answered.status == 404


async def test_an_unknown_address_is_a_page_of_ours(house: House) -> None:
    answered = await house.browser.get(url(LOGIN, "/nothing/<script>"))
    assert answered.status == 404
    assert "There is no such page" in answered.text
    assert "req-0001" in answered.text
    assert answered.headers["Cache-Control"] == "no-store"


@pytest.mark.requirement("ASVS 4.1.1")
async def test_a_program_is_told_in_json(house: House) -> None:
    house.browser.accept = "application/json"
    answered = await house.browser.get(url(LOGIN, "/nothing"))
    assert answered.headers["Content-Type"] == "application/problem+json; charset=utf-8"
    assert '"request_id": "req-0001"' in answered.text


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS", "TRACE", "PATCH"])
@pytest.mark.requirement("ASVS 4.1.4")
async def test_other_methods_are_refused_with_the_list_of_those_there_are(house: House, method: str) -> None:
    answered = await house.browser.send(method, url(LOGIN, "/sign-in"))
    assert answered.status == 405
    assert answered.headers["Allow"] == "GET, HEAD, POST"


async def test_head_follows_get(house: House) -> None:
    answered = await house.browser.send("HEAD", url(LOGIN, "/sign-in"))
    assert (answered.status, answered.text) == (200, "")


@pytest.mark.parametrize("fault", [StoreUnavailable("disk on fire"), JournalUnavailable("disk on fire")])
async def test_what_cannot_be_known_or_recorded_is_503(house: House, fault: Exception) -> None:
    house.break_with(fault)
    answered = await house.browser.get(url(LOGIN, "/sign-in"))
    assert answered.status == 503
    assert answered.headers["Retry-After"] == "5"
    assert "disk on fire" not in answered.text


@pytest.mark.requirement("ASVS 13.4.2", "ASVS 16.5.1")
async def test_a_fault_of_ours_shows_a_request_id_and_nothing_else(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    house.break_with(RuntimeError("internal detail"))
    with caplog.at_level(logging.ERROR):
        answered = await house.browser.get(url(LOGIN, "/sign-in"))
    assert answered.status == 500
    assert "req-0001" in answered.text
    assert "internal detail" not in answered.text
    assert "internal detail" in caplog.text


async def test_the_key_document_has_public_keys_only_and_may_be_kept_a_minute(house: House) -> None:
    house.browser.accept = "*/*"
    answered = await house.browser.get(url(LOGIN, "/.well-known/jwks.json"))
    assert answered.headers["Cache-Control"] == "public, max-age=60"
    assert '"kid"' in answered.text
    assert '"d"' not in answered.text


async def test_static_files_are_kept_for_a_year_under_todays_address_only(house: House) -> None:
    page = await house.browser.get(url(LOGIN, "/sign-in"))
    address = page.text.split('rel="stylesheet" href="')[1].split('"')[0]
    today = await house.browser.get(url(ORDERS, address))
    assert today.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert today.headers["Content-Type"] == "text/css; charset=utf-8"
    older = await house.browser.get(url(ORDERS, "/.gateway/static/0123456789ab/portal.css"))
    assert (older.status, older.headers["Cache-Control"]) == (200, "no-cache")
    assert (await house.browser.get(url(ORDERS, "/.gateway/static/0123456789ab/other.css"))).status == 404
