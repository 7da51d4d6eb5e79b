"""What two places of the file together get wrong."""

from typing import Any

import pytest

from gateway.policy.compile import InvalidPolicy

R = dict[str, Any]


def at(index: int, key: str = "path") -> str:
    return f"applications[0].routes[{index}].{key}"


# Each: routes as (path, more), what is wrong and where. `None`: nothing is.
PATHS: list[tuple[list[tuple[str, R]], str | None, str]] = [
    # Equally specific and overlapping.
    ([("/a", {}), ("/a", {})], at(1), "equally specific"),
    ([("/a/*", {}), ("/a/{secret}", {})], at(1), "equally specific"),
    ([("/a/**", {}), ("/a/**", {"methods": ["POST", "GET"]})], at(1), "GET /a/** overlaps"),
    ([("/t/{tenant}/x", {}), ("/t/{tenant}/x", {})], at(1), "equally specific"),
    ([("/a", {}), ("/a", {"methods": ["POST"]})], None, ""),
    ([("/a", {}), ("/A", {})], None, ""),
    ([("/a", {}), ("/a/", {}), ("/a/*", {}), ("/a/**", {}), ("/**", {}), ("/", {})], None, ""),
    ([("/*/b", {}), ("/a/*", {})], None, ""),
    # A literal or `*` where another route has {tenant}.
    ([("/t/{tenant}/x", {}), ("/t/new", {})], at(1), "'new' in '/t/new' is where another route"),
    ([("/t/{tenant}/x", {}), ("/t/new/deeper/still", {})], at(1), "another route"),
    ([("/t/new", {}), ("/t/{tenant}/x", {})], at(0), "another route"),
    ([("/t/{tenant}/x", {}), ("/t/*", {})], at(1), "'*'"),
    ([("/t/{tenant}/x", {}), ("/t/*/x/**", {})], at(1), "'*'"),
    ([("/t/{tenant}/x", {}), ("/t/{secret}", {})], at(1), "'*'"),
    ([("/t/{tenant}/x", {}), ("/*/new", {})], at(1), "another route"),
    ([("/t/{tenant}/x", {}), ("/*/*/y", {})], at(1), "another route"),
    ([("/*/{tenant}/x", {}), ("/a/b", {})], at(1), "another route"),
    ([("/{tenant}/x", {}), ("/status", {})], at(1), "another route"),
    ([("/t/{tenant}/x", {}), ("/t/favicon.ico", {})], at(1), "another route"),
    ([("/t/{tenant}/x", {}), ("/t/{tenant}/y/*", {}), ("/t/", {}), ("/t", {}), ("/**", {}), ("/t/**", {})], None, ""),
    ([("/t/{tenant}/x", {}), ("/s/{tenant}", {}), ("/s", {}), ("/u/v", {})], None, ""),
    # Fixed to one customer.
    ([("/t/{tenant}/x", {"tenant": "acme"})], at(0), "not both|that tenant only"),
    ([("/acme", {"tenant": "acme"}), ("/other", {"tenant": "other"})], None, ""),
    # Rates that nobody would be counted for.
    ([("/a", {"rate": {"tenant": "1/day"}})], at(0, "rate.tenant"), "belongs to a customer"),
    (
        [("/t/{tenant}", {"rate": {"tenant": "1/day"}}), ("/acme", {"tenant": "acme", "rate": {"tenant": "1/day"}})],
        None,
        "",
    ),
    (
        [("/a", {"allow": "public", "why": "a test", "rate": {"identity": "1/day"}})],
        at(0, "rate.identity"),
        "the route is public",
    ),
    ([("/a", {"allow": "public", "why": "a test", "rate": {"identity": "1/day", "client": "1/day"}})], None, ""),
    # Routes that can't match.
    ([("/.gateway/x", {})], at(0), "gateway's own"),
    ([("/.gateway", {})], at(0), "gateway's own"),
    ([("/.gatewayx", {})], None, ""),
    # Encoded characters may not hide a tenant.
    ([("/t/{tenant}/x", {}), ("/f/**", {"encoded": ["slash"]})], at(1, "encoded"), "could hide"),
    ([("/t/{tenant}/x", {}), ("/f/*", {"encoded": ["semicolon"]})], at(1, "encoded"), "could hide"),
    ([("/*/{tenant}/**", {"encoded": ["slash"]})], at(0, "encoded"), "could hide"),
    ([("/t/{tenant}/**", {"encoded": ["slash", "semicolon"]}), ("/f/**", {})], None, ""),
    ([("/f/**", {"encoded": ["slash", "backslash", "semicolon"]})], None, ""),
    # Rules.
    ([("/a", {"allow": {"permission": "raed"}})], at(0, "allow.permission"), "there is no permission 'raed'"),
    (
        [("/a", {"allow": {"any_of": ["authenticated", {"all_of": [{"permission": "nope"}]}]}})],
        at(0, "allow.any_of[1].all_of[0].permission"),
        "'nope'",
    ),
    ([("/a", {"allow": {"permission": "gateway.metrics"}})], None, ""),
    # Restrictions that leave nobody.
    ([("/a", {"allow": "public", "restrict": {"credential": ["token"]}})], at(0, "allow"), "needs no credential"),
    ([("/a", {"allow": "public", "restrict": {"addresses": ["10.0.0.0/8"]}})], None, ""),
    (
        [("/a", {"allow": {"permission": "read", "otp_within": "5m"}, "restrict": {"credential": ["token"]}})],
        at(0, "allow.otp_within"),
        "can't give a code",
    ),
]


@pytest.mark.parametrize(("routes", "place", "complaint"), PATHS)
def test_routes_of_one_application(words: Any, routes: list[tuple[str, R]], place: str | None, complaint: str) -> None:
    found = words.problems_of(words.application(*(words.route(path, **more) for path, more in routes)))
    if place is None:
        assert found == {}
    else:
        assert list(found) == [place]
        assert any(part in found[place] for part in complaint.split("|")), found


@pytest.mark.parametrize(
    ("paths", "place"), [(["/A", "/a"], at(1)), (["/T/{tenant}/x", "/t/NEW"], at(1)), (["/.GateWay"], at(0))]
)
def test_an_application_that_folds_case_is_looked_at_folded(words: Any, paths: list[str], place: str) -> None:
    routes = [words.route(path) for path in paths]
    assert words.problems_of(words.application(*routes)) == {}
    assert list(words.problems_of(words.application(*routes, case="fold"))) == [place]


APPLICATIONS: list[tuple[list[R], str | None, str]] = [
    ([{}, {"name": "other"}], "applications[1].host", "two applications have one host"),
    ([{}, {"host": "other.test"}], "applications[1].name", "two applications have one name"),
    ([{"host": "{tenant}.a.test"}, {"name": "other", "host": "{tenant}.a.test"}], "applications[1].host", "one host"),
    ([{"host": "{tenant}.a.test"}, {"name": "other", "host": "shop.a.test"}], None, ""),
    ([{"host": "{tenant}.a.test"}, {"name": "other", "host": "{tenant}.b.a.test"}], None, ""),
    ([{"name": "gateway"}], "applications[0].name", "reserved"),
    ([{"name": "gateway.portal"}], "applications[0].name", "reserved"),
    ([{"name": "gatewayish"}], "applications[0].name", "reserved"),
    ([{"tenant": "acme", "host": "{tenant}.a.test"}], "applications[0].tenant", "its host has {tenant}"),
    ([{"tenant": "acme", "route": {"tenant": "other"}}], "applications[0].routes[0].tenant", "can't match"),
    ([{"tenant": "acme", "route": {"path": "/t/{tenant}"}}], "applications[0].routes[0].path", "for that tenant only"),
    ([{"tenant": "acme", "route": {"tenant": "acme"}}], None, ""),
    ([{"upstream": ["https://a", "https://a:443"]}], "applications[0].upstream[1]", "twice"),
    ([{"cookie_domains": ["test", "other.test"]}], "applications[0].cookie_domains[1]", "no browser"),
    ([{"host": "{tenant}.a.test", "cookie_domains": ["a.test"]}], None, ""),
    (
        [{"restrict": {"credential": ["session"]}, "route": {"restrict": {"credential": ["token"]}}}],
        "applications[0].routes[0].restrict.credential",
        "leave no kind",
    ),
]


@pytest.mark.parametrize(("sections", "place", "complaint"), APPLICATIONS)
def test_applications(words: Any, sections: list[R], place: str | None, complaint: str) -> None:
    applications = []
    for section in sections:
        more = {key: value for key, value in section.items() if key != "route"}
        applications.append(words.application(words.route(**{"path": "/a", **section.get("route", {})}), **more))
    found = words.problems_of(*applications)
    assert list(found) == ([] if place is None else [place])
    assert place is None or complaint in found[place]


def test_names_and_roles(words: Any) -> None:
    found = words.problems_of(
        permissions=["read", "read", "gateway.users", "gateway.mine"],
        roles={"reader": {"permissions": ["read", "wriite", "gateway.audit"]}, "other": {"permissions": ["write"]}},
    )
    assert {place: message.partition(":")[0] for place, message in found.items()} == {
        "permissions[1]": "declared twice",
        "permissions[2]": "'gateway.users'",
        "permissions[3]": "'gateway.mine'",
        "roles.reader.permissions[1]": "there is no permission 'wriite'",
        "roles.other.permissions[0]": "there is no permission 'write'",
    }


def test_tests_name_what_exists(words: Any) -> None:
    expect = [{"request": "GET https://shop.test/a", "is": "allow"}]
    identity = {"grants": ["reader@acme", "raeder@acme"], "credential": "token", "applications": ["shop", "shpo"]}
    tests = [{"name": "a", "as": identity, "expect": expect}, {"name": "a", "as": "anonymous", "expect": expect}]
    found = words.problems_of(words.application(words.route("/a")), tests=tests)
    assert set(found) == {"tests[0].as.grants[1]", "tests[0].as.applications[1]", "tests[1].name"}


def test_every_problem_is_reported_at_once_with_a_hint(words: Any) -> None:
    first = words.application(words.route("/a", {"permission": "raed"}), words.route("/a"), name="gateway.x")
    second = words.application(words.route("/t/{tenant}/x"), words.route("/t/*"), name="other")
    with pytest.raises(InvalidPolicy) as caught:
        words.policy_of(first, second)
    problems = {problem.path: problem for problem in caught.value.problems}
    assert set(problems) == {
        "applications[0].name",
        "applications[1].host",
        "applications[0].routes[0].allow.permission",
        "applications[0].routes[1].path",
        "applications[1].routes[1].path",
    }
    assert problems["applications[0].routes[0].allow.permission"].hint == "did you mean 'read'?"
    assert "/t/{tenant}/…" in problems["applications[1].routes[1].path"].hint


def test_rules_can_be_deep_but_not_bottomless(words: Any) -> None:
    rule: Any = {"permission": "read"}
    for _ in range(7):
        rule = {"all_of": [rule]}
    assert words.problems_of(words.application(words.route("/a", rule))) == {}
    found = words.problems_of(words.application(words.route("/a", {"any_of": [rule]})))
    assert list(found.values()) == ["rules can be nested 8 deep, not deeper"]


def test_checking_ten_thousand_routes_is_quick(words: Any) -> None:
    routes = [words.route(f"/area{i}/{{tenant}}/x") for i in range(5000)]
    routes += [words.route(f"/other{i}/*/y") for i in range(5000)]
    assert words.problems_of(words.application(*routes)) == {}


def test_two_places_for_a_tenant_are_both_named(words: Any) -> None:
    found = words.problems_of(words.application(words.route("/{tenant}/x"), words.route("/t/{tenant}/y")))
    assert list(found) == [at(0), at(1)]
