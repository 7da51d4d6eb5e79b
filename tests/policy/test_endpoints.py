from typing import Any

import pytest

from gateway.policy.endpoints import Upstream, parse_domain, parse_host, parse_origin, parse_upstream


@pytest.mark.parametrize(
    ("text", "upstream"),
    [
        ("https://10.0.3.11:8443", Upstream("https", "10.0.3.11", 8443)),
        ("https://app.internal", Upstream("https", "app.internal", 443)),
        ("https://[2001:db8::1]:8443", Upstream("https", "2001:db8::1", 8443)),
        ("unix:/run/app.sock", Upstream("unix", path="/run/app.sock")),
        ("http://127.0.0.1:8000", Upstream("http", "127.0.0.1", 8000)),
        ("http://localhost", Upstream("http", "localhost", 80)),
        ("http://[::1]:8000", Upstream("http", "::1", 8000)),
    ],
)
def test_upstreams(text: str, upstream: Upstream) -> None:
    assert parse_upstream(text) == upstream
    assert parse_upstream(str(upstream)) == upstream


@pytest.mark.parametrize(
    "text",
    [
        "http://10.0.3.11:8000",
        "http://app.internal",
        "http://localhost.evil.test",
        "http://127.0.0.1.evil.test",
        "http://2130706433/",
        "ftp://10.0.3.11",
        "10.0.3.11:8443",
        "https://",
        "https://app/path",
        "https://app?x",
        "https://app#x",
        "https://user:password@app",
        "https://app:0",
        "https://app:99999",
        "https://app:x",
        "https://a b",
        "https://app\\@evil.test",
        "unix:run/app.sock",
        "unix://host/path",
        "unix:",
    ],
)
@pytest.mark.requirement("ASVS 1.3.6", "ASVS 12.3.1", "SP 800-207 tenet 2")
def test_upstreams_that_are_none_or_in_the_clear(text: str) -> None:
    with pytest.raises(ValueError, match=r"in the clear|upstream|socket"):
        parse_upstream(text)


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("https://www.example.com", "https://www.example.com"),
        ("HTTPS://WWW.Example.com:443", "https://www.example.com"),
        ("https://www.example.com:8443", "https://www.example.com:8443"),
        ("http://localhost:3000", "http://localhost:3000"),
    ],
)
def test_origins_are_spelt_as_browsers_do(text: str, origin: str) -> None:
    assert parse_origin(text) == origin


@pytest.mark.parametrize("text", ["*", "null", "https://a/", "https://*.a", "http://a.test", "a.test", "file://", ""])
@pytest.mark.requirement("ASVS 3.4.2")
def test_origins_that_nobody_should_trust(text: str) -> None:
    with pytest.raises(ValueError, match="origin"):
        parse_origin(text)


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("Orders.BTB.localhost", "orders.btb.localhost"),
        ("{tenant}.orders.test", "{tenant}.orders.test"),
    ],
)
def test_hosts(text: str, host: str) -> None:
    assert parse_host(text) == host


@pytest.mark.parametrize(
    "text",
    ["", "a:443", "https://a", "a.", ".a", "a..b", "*.a", "a.{tenant}.b", "{tenant}", "{tenant}.", "x{tenant}.a",
     "{tenant}.{tenant}.a", "-a", "a-", "a_b", "é.test", "a" * 64, "a/b"],
)  # fmt: skip
def test_hosts_that_could_not_match(text: str) -> None:
    with pytest.raises(ValueError, match="host"):
        parse_host(text)


def test_cookie_domains_lose_their_dot() -> None:
    assert parse_domain(".BTB.localhost") == "btb.localhost"


@pytest.mark.parametrize("parse", [parse_upstream, parse_origin])
@pytest.mark.parametrize(
    "text", ["https://ada:hunter2@10.0.0.1", "http://ada:hunter2@localhost:80", "https://hunter2@x"]
)
def test_a_password_in_an_address_is_refused_without_being_repeated(parse: Any, text: str) -> None:
    # What is wrong with a policy is printed, and recorded when a reload is refused.
    with pytest.raises(ValueError, match="no user name or password") as refused:
        parse(text)
    assert "hunter2" not in str(refused.value)
