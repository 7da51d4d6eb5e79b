"""Which route a request gets: the tables of CONTRACT 3."""

import timeit
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.policy.cases import match_for
from gateway.policy.compile import InvalidPolicy, compile_policy
from gateway.policy.match import Match, Policy
from gateway.policy.own import own_application
from gateway.policy.path import NormalPath, normalise
from gateway.policy.reasons import Reason
from gateway.policy.values import parse_request

PLAIN = NormalPath(b"/a", ("a",))


def matched(policy: Policy, request: str) -> Match:
    return match_for(policy, parse_request(request))


def pattern_of(policy: Policy, path: str, method: str = "GET") -> str | None:
    match = matched(policy, f"{method} https://shop.test{path}")
    assert (match.route is None) == (match.refused is not None)
    return match.route.pattern.text if match.route is not None else match.refused


PATTERNS = ["/", "/a", "/a/", "/a/b", "/a/*", "/a/**", "/a/*/c", "/b/**", "/b/x/y", "/c/*", "/*/z", "/d/{secret}/e"]


@pytest.mark.parametrize(
    ("path", "pattern"),
    [
        ("/", "/"),
        ("/a", "/a"),
        ("/a/", "/a/"),
        ("/a/b", "/a/b"),
        ("/a/c", "/a/*"),
        ("/a/b/", "/a/**"),
        ("/a/b/c", "/a/*/c"),
        ("/a/x/c", "/a/*/c"),
        ("/a/x/d", "/a/**"),
        ("/a/x/c/d", "/a/**"),
        ("/a/z", "/a/*"),
        ("/b", "/b/**"),
        ("/b/", "/b/**"),
        ("/b/x", "/b/**"),
        ("/b/x/y", "/b/x/y"),
        ("/b/x/z", "/b/**"),
        ("/c", "path"),
        ("/c/", "path"),
        ("/c/z", "/c/*"),
        ("/x/z", "/*/z"),
        ("/x/z/", "path"),
        ("/x", "path"),
        ("/A", "path"),
        ("/d/token/e", "/d/{secret}/e"),
        ("/%61", "/a"),
        ("/a%2Fb", "ambiguous|path"),
        ("/a/%2e%2e/b", "ambiguous"),
        ("/.gateway/whoami", "path"),
    ],
)
def test_the_most_specific_pattern_from_the_left_wins(words: Any, path: str, pattern: str) -> None:
    policy = words.policy_of(words.application(*map(words.route, PATTERNS)))
    assert pattern_of(policy, path) in pattern.split("|")


@pytest.mark.requirement("ASVS 4.1.4")
def test_the_path_decides_then_the_method_without_falling_through(words: Any) -> None:
    routes = [words.route("/a", methods=("GET",)), words.route("/**", methods=("GET", "POST", "DELETE"))]
    policy = words.policy_of(words.application(*routes, words.route("/a", methods=("PUT",))))
    assert pattern_of(policy, "/a", "GET") == "/a"
    assert pattern_of(policy, "/a", "HEAD") == "/a", "HEAD follows GET"
    assert pattern_of(policy, "/a", "PUT") == "/a"
    assert pattern_of(policy, "/a", "POST") == "method"
    assert pattern_of(policy, "/a", "OPTIONS") == "method"
    assert policy.match("shop.test", "get", PLAIN).refused is Reason.METHOD, "methods have a letter case"
    assert pattern_of(policy, "/b", "POST") == "/**"


def test_head_needs_get(words: Any) -> None:
    policy = words.policy_of(words.application(words.route("/a", methods=("POST",))))
    assert pattern_of(policy, "/a", "HEAD") == "method"


TENANTS = ["/", "/status", "/t/{tenant}/orders/**", "/t/**", "/acme/x"]


@pytest.mark.parametrize(
    ("path", "pattern", "tenant"),
    [
        ("/", "/", None),
        ("/t/acme/orders", "/t/{tenant}/orders/**", "acme"),
        ("/t/acme/orders/7/lines", "/t/{tenant}/orders/**", "acme"),
        ("/t/%61cme/orders", "/t/{tenant}/orders/**", "acme"),
        # A wider pattern is no way round the tenant: the request touches acme whichever route it gets.
        ("/t/acme/other", "/t/**", "acme"),
        ("/t/acme", "/t/**", "acme"),
        ("/t/", "/t/**", None),
        ("/t", "/t/**", None),
        ("/acme/x", "/acme/x", None),
        # What stands in a tenant's place and is none, is nobody's.
        ("/t/Acme/orders", "path", None),
        ("/t/Acme/other", "path", None),
        ("/t/acme_/other", "path", None),
        ("/t/-acme/orders", "path", None),
        ("/t/acme%2F/orders", "path", None),
        ("/t/acme;x/orders", "path", None),
        ("/t/ac%5Cme/orders", "path", None),
        (f"/t/{'a' * 64}/orders", "path", None),
    ],
)
@pytest.mark.advisory("CVE-2026-73553")
def test_tenants_in_paths(words: Any, path: str, pattern: str, tenant: str | None) -> None:
    policy = words.policy_of(words.application(*map(words.route, TENANTS)))
    assert pattern_of(policy, path) == pattern
    assert matched(policy, f"GET https://shop.test{path}").tenant == tenant


def test_the_tenant_is_known_of_a_refused_method_too(words: Any) -> None:
    policy = words.policy_of(words.application(words.route("/t/{tenant}/orders")))
    match = matched(policy, "POST https://shop.test/t/acme/orders")
    assert (match.refused, match.tenant) == (Reason.METHOD, "acme")


def test_a_wide_route_meets_the_tenant_behind_a_wild_prefix(words: Any) -> None:
    policy = words.policy_of(words.application(words.route("/*/{tenant}/x"), words.route("/a/**")))
    match = matched(policy, "GET https://shop.test/a/acme/y")
    assert match.route is not None
    assert (match.route.pattern.text, match.tenant) == ("/a/**", "acme")


@pytest.mark.parametrize(
    ("host", "path", "tenant", "refused"),
    [
        ("acme.shop.test", "/", "acme", None),
        ("acme.shop.test", "/t/acme/x", "acme", None),
        ("acme.shop.test", "/t/other/x", None, Reason.TENANT),
        ("acme.shop.test", "/t/other/unmapped", None, Reason.TENANT),
        ("acme.shop.test", "/fixed", "acme", None),
        ("other.shop.test", "/fixed", None, Reason.TENANT),
        ("shop.test", "/", None, Reason.HOST),
        ("a.acme.shop.test", "/", None, Reason.HOST),
        ("-acme.shop.test", "/", None, Reason.HOST),
        ("acme.shop.test.evil.test", "/", None, Reason.HOST),
        ("acmeshop.test", "/", None, Reason.HOST),
    ],
)
@pytest.mark.requirement("ASVS 8.2.2")
def test_host_path_and_route_name_the_same_tenant(
    words: Any, host: str, path: str, tenant: str | None, refused: Reason | None
) -> None:
    routes = [words.route("/"), words.route("/t/{tenant}/x"), words.route("/fixed", tenant="acme")]
    policy = words.policy_of(words.application(*routes, host="{tenant}.shop.test"))
    match = matched(policy, f"GET https://{host}{path}")
    assert (match.tenant, match.refused) == (tenant, refused)


def test_a_fixed_application_belongs_to_its_customer_on_every_route(words: Any) -> None:
    policy = words.policy_of(words.application(words.route("/a"), words.route("/b", tenant="acme"), tenant="acme"))
    assert [matched(policy, f"GET https://shop.test{path}").tenant for path in ("/a", "/b")] == ["acme", "acme"]


def test_a_fixed_route_and_another_tenants_place_disagree(words: Any) -> None:
    policy = words.policy_of(words.application(words.route("/t/{tenant}/x"), words.route("/**", tenant="acme")))
    assert matched(policy, "GET https://shop.test/t/acme/y").tenant == "acme"
    assert matched(policy, "GET https://shop.test/t/other/y").refused is Reason.TENANT


def test_a_literal_host_beats_a_tenants(words: Any) -> None:
    wide = words.application(words.route("/"), host="{tenant}.test")
    policy = words.policy_of(wide, words.application(words.route("/"), name="admin", host="admin.test"))
    assert matched(policy, "GET https://admin.test/").application is policy.applications["admin"]
    assert matched(policy, "GET https://admin.test/").tenant is None
    assert matched(policy, "GET https://acme.test/").application is policy.applications["shop"]


@pytest.mark.parametrize(
    ("path", "allowed", "refused"),
    [
        ("/f/a%2Fb", ["slash"], None),
        ("/f/a%2Fb", [], Reason.AMBIGUOUS),
        ("/f/a%2Fb", ["semicolon", "backslash"], Reason.AMBIGUOUS),
        ("/f/a%5Cb", ["backslash"], None),
        ("/f/a%5Cb", ["slash"], Reason.AMBIGUOUS),
        ("/f/a;v=1", ["semicolon"], None),
        ("/f/a;v=1", [], Reason.AMBIGUOUS),
        ("/f/a%3Bv", [], Reason.AMBIGUOUS),
        ("/f/a%2Fb;c", ["slash"], Reason.AMBIGUOUS),
        ("/f/a%2Fb;c", ["slash", "semicolon"], None),
        ("/f%2Fa", ["slash"], Reason.PATH),
    ],
)
@pytest.mark.advisory("CVE-2026-52844", "CVE-2026-73553")
def test_encoded_characters_need_leave(words: Any, path: str, allowed: list[str], refused: Reason | None) -> None:
    policy = words.policy_of(words.application(words.route("/f/*", encoded=allowed)))
    assert matched(policy, f"GET https://shop.test{path}").refused is refused


@pytest.mark.advisory("CVE-2026-27587")
def test_an_application_that_folds_case(words: Any) -> None:
    routes = [words.route("/Admin/*"), words.route("/t/{tenant}/x"), words.route("/**")]
    policy = words.policy_of(words.application(*routes, case="fold"))
    assert pattern_of(policy, "/aDMIN/Users") == "/Admin/*"
    assert pattern_of(policy, "/%41dmin/x") == "/Admin/*"
    match = matched(policy, "GET https://shop.test/T/ACME/X")
    assert match.route is not None
    assert (match.route.pattern.text, match.tenant) == ("/t/{tenant}/x", "acme")


@pytest.mark.parametrize(
    ("request_line", "positions"),
    [
        ("GET /reset/s3cret", (1,)),
        ("POST /reset/s3cret", (1,)),  # refused for its method
        ("GET /reset/s3cret/", (1,)),  # refused for its path
        ("GET /reset/s3cret/more", (1,)),
        ("GET /reset/form", ()),
        ("GET /reset", ()),
        ("GET /x/a/b", (1, 2)),
        ("GET /other", ()),
    ],
)
def test_secret_segments_are_marked_whatever_becomes_of_the_request(
    words: Any, request_line: str, positions: tuple[int, ...]
) -> None:
    routes = [words.route(path) for path in ("/reset/{secret}", "/reset/form", "/x/{secret}/{secret}", "/other/**")]
    policy = words.policy_of(words.application(*routes))
    method, path = request_line.split()
    assert matched(policy, f"{method} https://shop.test{path}").secret_positions == positions


def test_our_own_paths_are_on_every_host_and_nothing_else_is_there(words: Any) -> None:
    rules = [("/sign-in", ("GET", "POST"), "sign-in"), ("/.gateway/**", ("GET", "POST"), "hand-over")]
    own = own_application("login.test", "unix:/run/portal.sock", rules)
    shop = words.application(words.route("/**"), words.route("/t/{tenant}/x"))
    rooms = words.application(words.route("/**"), name="rooms", host="{tenant}.rooms.test", case="fold")
    policy = compile_policy(words.file_of(shop, rooms), (own,))
    portal = policy.applications["gateway.portal"]
    for url in ("shop.test/.gateway/whoami", "acme.rooms.test/.gateway/whoami", "acme.rooms.test/.Gateway/x",
                "login.test/.gateway/x", "login.test/sign-in"):  # fmt: skip
        match = matched(policy, f"GET https://{url}")
        assert match.application is portal
        assert match.is_own
        assert match.tenant is None
        assert str(match.upstreams[0]) == "unix:/run/portal.sock"
    assert matched(policy, "DELETE https://shop.test/.gateway/whoami").refused is Reason.METHOD
    assert matched(policy, "GET https://shop.test/sign-in").application is policy.applications["shop"]
    assert not matched(policy, "GET https://shop.test/sign-in").is_own
    assert matched(policy, "GET https://other.test/.gateway/whoami").refused is Reason.HOST


def test_the_gateways_hosts_are_taken(words: Any) -> None:
    own = own_application("shop.test", "unix:/run/portal.sock", [("/", ("GET",), "a test")])
    file = words.file_of(words.application(words.route("/")))
    with pytest.raises(InvalidPolicy, match="the gateway's own"):
        compile_policy(file, (own,))


def test_route_ids_are_stable_and_unique(words: Any) -> None:
    routes = [words.route("/a"), words.route("/a", methods=("PUT", "POST")), words.route("/t/{tenant}/x/**")]
    policy = words.policy_of(words.application(*routes))
    ids = [route.id for route in policy.applications["shop"].routes]
    assert ids == ["shop:/a", "shop:/a [PUT,POST]", "shop:/t/{tenant}/x/**"]


@st.composite
def pattern_texts(draw: st.DrawFn) -> str:
    parts = draw(st.lists(st.sampled_from(["a", "b", "c", "*"]), max_size=3))
    return "/" + "/".join([*parts, *draw(st.sampled_from([[], [""], ["**"]]))])


def reference(patterns: list[str], path: NormalPath) -> str | None:
    """The law, read aloud: of all patterns that match, the one that is most specific at the leftmost difference."""

    def rank(pattern: str) -> list[int] | None:
        words, ranks = pattern[1:].split("/"), []
        for index, segment in enumerate(path.segments):
            word = words[index] if index < len(words) else None
            if word == "**":
                return [*ranks, 1]
            if word is None or (word != segment and (word != "*" or not segment)):
                return None
            ranks.append(3 if word == segment else 2)
        rest = words[len(path.segments) :]
        return [*ranks, 4] if not rest else [*ranks, 1] if rest == ["**"] else None

    ranked = [(found, pattern) for pattern in patterns if (found := rank(pattern)) is not None]
    return max(ranked)[1] if ranked else None


@given(
    st.lists(pattern_texts(), min_size=1, max_size=8, unique=True),
    st.lists(st.sampled_from("abcd"), max_size=4),
    st.booleans(),
)
@settings(max_examples=300, deadline=None)
def test_the_tree_does_what_the_law_says(words: Any, patterns: list[str], parts: list[str], slash: bool) -> None:
    policy = words.policy_of(words.application(*map(words.route, patterns)))
    path = normalise(("/" + "/".join(parts) + ("/" if slash and parts else "")).encode())
    assert isinstance(path, NormalPath)
    match = policy.match("shop.test", "GET", path)
    assert (match.route.pattern.text if match.route else None) == reference(patterns, path)


def test_the_cost_does_not_grow_with_the_number_of_routes(words: Any) -> None:
    path = normalise(b"/t/acme/area3/x/y")
    assert isinstance(path, NormalPath)

    def seconds(routes: int) -> float:
        section = words.application(*(words.route(f"/t/{{tenant}}/area{i}/x/**") for i in range(routes)))
        policy = words.policy_of(section)
        assert policy.match("shop.test", "GET", path).refused is None
        return min(timeit.repeat(lambda: policy.match("shop.test", "GET", path), number=500, repeat=7))

    assert seconds(10_000) < 4 * seconds(10)


@pytest.mark.parametrize("spelling", ["ADMIN", "adm%C4%B1n", "ADM%C4%B0N", "adm%C4%B0n", "ADM%C4%B1N"])
@pytest.mark.advisory("CVE-2026-27587")
def test_letters_that_some_applications_take_for_an_i_are_one_to_a_folding_policy(words: Any, spelling: str) -> None:
    # Java's equalsIgnoreCase("\u0131", "I") is true, and Unicode's case folding keeps the two apart.
    routes = words.route("/admin/**", {"permission": "pay"}), words.route("/**", "public")
    policy = words.policy_of(words.application(*routes, case="fold"))
    assert words.ask(policy, {"grants": ["reader@-"]}, f"GET https://shop.test/{spelling}/x").reason == "permission"
