"""One look at one value: each mistake in the file is found, at its place, in words."""

from typing import Any

import pytest
from pydantic import ValidationError

from gateway.policy.schema import Allow, PolicyFile


def complaints(file: dict[str, Any]) -> dict[str, str]:
    try:
        PolicyFile.model_validate(file)
    except ValidationError as error:
        return {".".join(map(str, each["loc"])): each["msg"].removeprefix("Value error, ") for each in error.errors()}
    return {}


GOOD_ROUTE = {"path": "/a", "methods": ["GET"], "allow": "authenticated"}


def with_route(**changes: Any) -> dict[str, Any]:
    route = {key: value for key, value in {**GOOD_ROUTE, **changes}.items() if value is not ...}
    return with_application(routes=[route])


def with_application(**changes: Any) -> dict[str, Any]:
    section = {"name": "shop", "host": "shop.test", "upstream": ["https://h"], "routes": [GOOD_ROUTE], **changes}
    return {"applications": [{key: value for key, value in section.items() if value is not ...}]}


def with_test(identity: Any, **expectation: Any) -> dict[str, Any]:
    expect = {"request": "GET https://shop.test/a", "is": "allow", **expectation}
    return {"tests": [{"name": "a test", "as": identity, "expect": [expect]}]}


@pytest.mark.parametrize(
    ("file", "place", "complaint"),
    [
        ({"permissons": []}, "permissons", "Extra inputs"),
        ({"version": 2}, "version", "Input should be 1"),
        ({"version": "1"}, "version", "Input should be 1"),
        ({"permissions": "read"}, "permissions", "must be a list"),
        ({"permissions": ["a b"]}, "permissions.0", "can't be a name"),
        ({"permissions": [1]}, "permissions.0", "must be a text"),
        ({"roles": {"a@b": {"permissions": []}}}, "roles.a@b.[key]", "can't be a name"),
        ({"roles": {"a": {}}}, "roles.a.permissions", "Field required"),
        (with_application(rate={}), "applications.0.rate", "limits nothing"),
        (with_route(rate="10/minute"), "applications.0.routes.0.rate", "valid dictionary"),
        (with_route(rate={"clients": "10/minute"}), "applications.0.routes.0.rate.clients", "Extra inputs"),
        (with_route(rate={"client": 10}), "applications.0.routes.0.rate.client", "must be a text"),
        (with_route(rate={"client": "10/m"}), "applications.0.routes.0.rate.client", "is no rate"),
        (with_route(rate={"client": "0/minute"}), "applications.0.routes.0.rate.client", "is no rate"),
        (with_route(rate={"client": "-1/minute"}), "applications.0.routes.0.rate.client", "is no rate"),
        (with_route(rate={"client": "1.5/minute"}), "applications.0.routes.0.rate.client", "is no rate"),
        (with_route(rate={"client": "\u0661/minute"}), "applications.0.routes.0.rate.client", "is no rate"),
        (with_application(name="Shop"), "applications.0.name", "can't be a name"),
        (with_application(name=...), "applications.0.name", "Field required"),
        (with_application(host="shop.test:443"), "applications.0.host", "ports are ignored"),
        (with_application(upstream="https://h"), "applications.0.upstream", "must be a list"),
        (with_application(upstream=[]), "applications.0.upstream", "the list is empty"),
        (with_application(upstream=["http://h"]), "applications.0.upstream.0", "in the clear"),
        (with_application(routes=[]), "applications.0.routes", "the list is empty"),
        (with_application(case="upper"), "applications.0.case", "'exact' or 'fold'"),
        (with_application(tenant="Acme"), "applications.0.tenant", "can't be a tenant's name"),
        (with_application(cors={"origins": ["*"]}), "applications.0.cors.origins.0", "nobody in particular"),
        (with_application(cors={}), "applications.0.cors.origins", "Field required"),
        (with_application(origins=["null"]), "applications.0.origins.0", "nobody in particular"),
        (with_application(cookie_domains=["a b"]), "applications.0.cookie_domains.0", "no host name"),
        (with_application(adresses=[]), "applications.0.adresses", "Extra inputs"),
        (with_route(path="a"), "applications.0.routes.0.path", "must begin with /"),
        (with_route(path=5), "applications.0.routes.0.path", "must be a text"),
        (with_route(methods=...), "applications.0.routes.0.methods", "Field required"),
        (with_route(methods=[]), "applications.0.routes.0.methods", "the list is empty"),
        (with_route(methods=["get"]), "applications.0.routes.0.methods.0", "write it in capitals, like 'GET'"),
        (with_route(methods=["HEAD"]), "applications.0.routes.0.methods.0", "HEAD follows GET"),
        (with_route(methods=["CONNECT"]), "applications.0.routes.0.methods.0", "never forwarded"),
        (with_route(methods=["TRACE"]), "applications.0.routes.0.methods.0", "never forwarded"),
        (with_route(methods=["*"]), "applications.0.routes.0.methods.0", "no method"),
        (with_route(allow=...), "applications.0.routes.0.allow", "Field required"),
        (with_route(allow="everybody"), "applications.0.routes.0.allow", "write public, authenticated"),
        (with_route(allow=True), "applications.0.routes.0.allow", "write public, authenticated"),
        (with_route(allow={}), "applications.0.routes.0.allow", "empty rule"),
        (with_route(allow={"permissions": "a"}), "applications.0.routes.0.allow.permissions", "Extra inputs"),
        (with_route(allow={"address": "10.0.0.1"}), "applications.0.routes.0.allow.address", "Extra inputs"),
        (with_route(allow={"all_of": []}), "applications.0.routes.0.allow.all_of", "the list is empty"),
        (with_route(allow={"any_of": ["who"]}), "applications.0.routes.0.allow.any_of.0", "is no rule"),
        (
            with_route(allow={"authenticated": False}),
            "applications.0.routes.0.allow.authenticated",
            "Input should be True",
        ),
        (
            with_route(allow={"permission": "a", "any_of": ["authenticated"]}),
            "applications.0.routes.0.allow",
            "one rule",
        ),
        (with_route(allow="public"), "applications.0.routes.0", "says why it may be"),
        (with_route(allow="public", why="  "), "applications.0.routes.0.why", "at least 1 character"),
        (
            with_route(allow={"public": True, "otp_within": "5m"}, why="a test"),
            "applications.0.routes.0.allow",
            "can't ask for a code",
        ),
        (
            with_route(allow={"any_of": ["public"]}, why="a test"),
            "applications.0.routes.0.allow",
            "public stands alone",
        ),
        (
            with_route(allow={"all_of": ["public"]}, why="a test"),
            "applications.0.routes.0.allow",
            "public stands alone",
        ),
        (
            with_route(allow={"permission": "a", "otp_within": 300}),
            "applications.0.routes.0.allow.otp_within",
            "not a length of time",
        ),
        (with_route(encoded=["dot"]), "applications.0.routes.0.encoded.0", "'slash', 'backslash' or 'semicolon'"),
        (with_route(restrict={}), "applications.0.routes.0.restrict", "restricts nothing"),
        (
            with_route(restrict={"addresses": ["0.0.0.0/0"]}),
            "applications.0.routes.0.restrict.addresses.0",
            "every address there is",
        ),
        (
            with_route(restrict={"addresses": ["10.0.0.1/8"]}),
            "applications.0.routes.0.restrict.addresses.0",
            "has host bits set",
        ),
        (
            with_route(restrict={"addresses": ["::ffff:10.0.0.0/104"]}),
            "applications.0.routes.0.restrict.addresses.0",
            "write the IPv4 network",
        ),
        (with_route(restrict={"addresses": []}), "applications.0.routes.0.restrict.addresses", "the list is empty"),
        (
            with_route(restrict={"hours": [{"days": ["mo"], "from": "08:00", "to": "18:00", "timezone": "UTC"}]}),
            "applications.0.routes.0.restrict.hours.0.days.0",
            "'mon'",
        ),
        (
            with_route(restrict={"hours": [{"days": ["mon"], "from": "8:00", "to": "18:00", "timezone": "UTC"}]}),
            "applications.0.routes.0.restrict.hours.0.from",
            "HH:MM",
        ),
        (
            with_route(restrict={"hours": [{"days": ["mon"], "from": "08:00", "to": "24:00", "timezone": "UTC"}]}),
            "applications.0.routes.0.restrict.hours.0.to",
            "23:59",
        ),
        (
            with_route(
                restrict={"hours": [{"days": ["mon"], "from": "08:00", "to": "18:00", "timezone": "Mars/Base"}]}
            ),
            "applications.0.routes.0.restrict.hours.0.timezone",
            "no time zone",
        ),
        (
            with_route(
                restrict={"hours": [{"days": ["mon"], "from": "08:00", "to": "18:00", "timezone": "../../etc"}]}
            ),
            "applications.0.routes.0.restrict.hours.0.timezone",
            "no time zone",
        ),
        (with_route(restrict={"credential": ["cookie"]}), "applications.0.routes.0.restrict.credential.0", "'session'"),
        (with_test("nobody"), "tests.0.as", "write anonymous"),
        (with_test({"grants": ["support"]}), "tests.0.as.grants.0", "is not a grant"),
        (with_test({"grants": ["support@Acme"]}), "tests.0.as.grants.0", "can't be a tenant's name"),
        (with_test({"credential": "none", "otp_age": "1m"}), "tests.0.as", "nobody"),
        (with_test({"credential": "token", "otp_age": "1m"}), "tests.0.as", "given no code"),
        (with_test({"applications": ["shop"]}), "tests.0.as", "only a service token"),
        (with_test({"address": "10.0.0"}), "tests.0.as.address", "10.0.0"),
        (with_test({"at": "2026-03-02T09:00:00"}), "tests.0.as.at", "offset"),
        (with_test({"at": "noon"}), "tests.0.as.at", "no instant"),
        (with_test({}, request="GET http://shop.test/"), "tests.0.expect.0.request", "METHOD https://host/path"),
        (with_test({}, request="https://shop.test/"), "tests.0.expect.0.request", "METHOD https://host/path"),
        (with_test({}, **{"is": "maybe"}), "tests.0.expect.0.is", "none of allow, challenge, deny"),
        (with_test({}, because="tenants"), "tests.0.expect.0.because", "is none of"),
        (with_test({}, because="overloaded"), "tests.0.expect.0.because", "is none of"),
        (
            with_test({}, because="tenant"),
            "tests.0.expect.0",
            "never happens because of tenant, but of: granted, public",
        ),
    ],
)
def test_a_mistake_is_found_at_its_place(file: dict[str, Any], place: str, complaint: str) -> None:
    found = complaints(file)
    assert complaint in found.get(place, ""), found
    assert len(found) == 1, "one mistake, one complaint"


def test_all_mistakes_are_found_at_once() -> None:
    file = with_application(
        name="Shop",
        upstream=["http://h", "ftp://h"],
        routes=[{**GOOD_ROUTE, "path": "a"}, {**GOOD_ROUTE, "methods": ["get"], "allow": "all"}],
    )
    assert set(complaints(file)) == {
        "applications.0.name",
        "applications.0.upstream.0",
        "applications.0.upstream.1",
        "applications.0.routes.0.path",
        "applications.0.routes.1.methods.0",
        "applications.0.routes.1.allow",
    }


@pytest.mark.parametrize(
    "allow",
    [
        "public",
        "authenticated",
        {"permission": "a"},
        {"permission": "a", "otp_within": "5m"},
        {"otp_within": "5m"},
        {"all_of": [{"permission": "a"}, {"any_of": ["authenticated", {"otp_within": "1h"}]}], "otp_within": "1d"},
    ],
)
def test_rules_that_can_be_written(allow: Any) -> None:
    assert Allow.model_validate(allow) == Allow.model_validate(Allow.model_validate(allow))


def test_what_was_read_is_frozen() -> None:
    file = PolicyFile.model_validate(with_route())
    with pytest.raises(ValidationError, match="frozen"):
        file.applications[0].name = "other"  # type: ignore[misc]  # The point of the test.


@pytest.mark.requirement("ASVS 8.2.1", "SP 800-207 tenet 1")
def test_an_empty_file_is_a_policy_that_allows_nothing() -> None:
    assert complaints({}) == {}
