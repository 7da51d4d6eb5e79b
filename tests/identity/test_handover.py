import base64
import json

import pytest

from gateway.foundation.clock import FixedClock
from gateway.foundation.entropy import SystemEntropy
from gateway.foundation.keyring import Key, KeySet, seal
from gateway.identity.handover import (
    REQUEST_SECONDS,
    nonce_hash,
    open_request,
    safe_target,
    seal_request,
    surplus_nonces,
    takes_half,
)

ENTROPY = SystemEntropy()
KEYS = KeySet((Key("hand-over", "k1", 0.0, b"k" * 32),))
STRANGERS = KeySet((Key("hand-over", "k1", 0.0, b"x" * 32),))


def sealed(clock, target="/a?b=c", keys=KEYS, fresh_code=False):
    return seal_request(keys, "orders.example", target, fresh_code=fresh_code, clock=clock, entropy=ENTROPY)


def test_says_where_it_came_from() -> None:
    clock = FixedClock()
    challenge = sealed(clock, fresh_code=True)
    request = open_request(KEYS, challenge.request, clock)
    assert request is not None
    assert (request.host, request.target, request.fresh_code, request.at) == (
        "orders.example",
        "/a?b=c",
        True,
        clock.now(),
    )
    name, _, rest = challenge.set_cookie.partition("=")
    assert name == f"__Host-gateway-nonce-{request.nonce_id}"
    assert nonce_hash(rest.partition(";")[0]) == request.nonce_hash
    assert "; Path=/; Max-Age=900; Secure; HttpOnly; SameSite=Lax" in challenge.set_cookie


@pytest.mark.requirement("ASVS 4.2.5")
def test_shows_nothing_in_clear_and_fits_an_address() -> None:
    challenge = sealed(FixedClock(), "/t/acme?token=s3cret")
    assert "s3cret" not in challenge.request
    assert challenge.request.replace("-", "").replace("_", "").isalnum()
    assert len(sealed(FixedClock(), "/" + '"' * 4095).request) < 8192 * 1.5
    assert len(sealed(FixedClock(), "/" + "a" * 4095).request) < 6144


@pytest.mark.parametrize(
    ("age", "is_good"),
    [(0, True), (REQUEST_SECONDS, True), (REQUEST_SECONDS + 1, False), (-60, True), (-REQUEST_SECONDS - 1, False)],
)
def test_is_good_for_a_quarter_of_an_hour(age, is_good) -> None:
    clock = FixedClock()
    challenge = sealed(clock)
    clock.advance(age)
    assert (open_request(KEYS, challenge.request, clock) is not None) is is_good


def test_keys_rotate() -> None:
    clock, both = FixedClock(), KeySet((Key("hand-over", "k2", 0.0, b"n" * 32), *KEYS.keys))
    assert open_request(both, sealed(clock).request, clock) is not None
    assert open_request(KEYS, sealed(clock, keys=both).request, clock) is None


@pytest.mark.advisory("CVE-2021-29652")
def test_forgeries() -> None:
    clock = FixedClock()
    good = sealed(clock).request
    elsewhere = base64.urlsafe_b64encode(seal(KEYS.current, json.dumps({}).encode(), "another use", ENTROPY)).decode()
    forged = ["", "=", "é", "a", good[:-2], good[:-1] + "\n", good + "AAAA", "k1." + good, elsewhere]
    forged.append(sealed(clock, keys=STRANGERS).request)
    forged += [good[:at] + ("A" if good[at] != "A" else "B") + good[at + 1 :] for at in range(0, len(good), 7)]
    for text in forged:
        assert open_request(KEYS, text, clock) is None


@pytest.mark.parametrize("target", ["/", "/a", "/a/b?c=d&e=%2F%2Fevil", "/a?next=https://evil.example/", "/~a;b=c"])
def test_targets_that_stay_here(target) -> None:
    assert safe_target(target) == target


@pytest.mark.parametrize(
    "target",
    [
        "",
        "a",
        "//evil.example",
        "///evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "/a\\b",
        "https://evil.example/",
        "javascript:alert(1)",
        " /a",
        "/a b",
        "/a\r\nSet-Cookie: x=y",
        "/\t/evil.example",
        "/\n/evil.example",
        "/a\x00",
        "/é",
        "/" + "a" * 4096,
    ],
)
@pytest.mark.advisory("CVE-2021-21291", "CVE-2022-28923")
@pytest.mark.requirement("ASVS 1.2.2")
def test_targets_that_could_lead_away_lead_to_the_root(target) -> None:
    assert safe_target(target) == "/"


@pytest.mark.requirement("ASVS 4.2.5")
def test_tabs_left_behind_are_cleared_oldest_first() -> None:
    names = [f"__Host-gateway-nonce-{n}" for n in range(6)]
    cleared = surplus_nonces(["__Host-gateway", *names, "__Host-gateway-sign-in"])
    assert [line.partition("=")[0] for line in cleared] == names[:3]
    assert all("Max-Age=0" in line for line in cleared)
    assert surplus_nonces(names[:3]) == []
    assert surplus_nonces([]) == []


@pytest.mark.parametrize(
    ("domain", "host", "takes"),
    [
        ("apps.example", "orders.apps.example", True),
        ("apps.example", "acme.orders.apps.example", True),
        ("apps.example", "apps.example", True),
        ("apps.example", "otherapps.example", False),
        ("apps.example", "orders.example", False),
        # No browser takes a cookie for a public suffix.
        ("localhost", "orders.localhost", False),
    ],
)
def test_which_hosts_a_cookie_of_the_domain_reaches(domain, host, takes) -> None:
    assert takes_half(domain, host) is takes
