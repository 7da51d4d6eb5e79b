"""What must hold for every policy, every identity and every request: random ones, asked of the one evaluator."""

from dataclasses import replace
from math import inf, nan
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.foundation.addresses import parse_address
from gateway.foundation.principal import Credential, Grant, Principal
from gateway.policy.compile import compile_policy
from gateway.policy.decide import Question, decide
from gateway.policy.explain import explain
from gateway.policy.match import Match, Policy
from gateway.policy.path import NormalPath, normalise
from gateway.policy.reasons import DECIDED, Verdict
from gateway.policy.schema import PolicyFile

NOW = 1_800_000_000.0
INSIDE = parse_address("10.0.0.1")
TENANTS = ["acme", "other"]
PERMISSIONS = ["read", "write", "pay"]
ROLE_NAMES = ["reader", "writer", "payer"]

leaves = st.one_of(
    st.just("authenticated"),
    st.sampled_from(PERMISSIONS).map(lambda name: {"permission": name}),
    st.sampled_from(PERMISSIONS).map(lambda name: {"permission": name, "otp_within": "5m"}),
    st.just({"otp_within": "1h"}),
)
rules = st.recursive(
    leaves,
    lambda inner: st.tuples(st.sampled_from(["all_of", "any_of"]), st.lists(inner, min_size=1, max_size=3)).map(
        lambda pair: {pair[0]: pair[1]}
    ),
    max_leaves=5,
)
TENANT_PATHS = ["/t/{tenant}", "/t/{tenant}/**", "/t/{tenant}/a", "/t/{tenant}/*", "/t/{tenant}/a/**"]
OTHER_PATHS = ["/", "/**", "/t/**", "/*", "/a/**", "/*/**", "/b", "/t"]
RESTRICTS = [
    None,
    None,
    {"addresses": ["10.0.0.0/8"]},
    {"credential": ["session"]},
    {"hours": [{"days": ["fri"], "from": "00:00", "to": "12:00", "timezone": "UTC"}]},
]


@st.composite
def routes(draw: st.DrawFn, patterns: list[str]) -> dict[str, Any]:
    path = draw(st.sampled_from(patterns))
    section: dict[str, Any] = {"path": path, "methods": ["GET", "POST"], "allow": draw(rules)}
    if path in OTHER_PATHS and draw(st.integers(0, 3)) == 0:
        section["tenant"] = draw(st.sampled_from(TENANTS))
    if (restrict := draw(st.sampled_from(RESTRICTS))) is not None:
        section["restrict"] = restrict
    if draw(st.integers(0, 7)) == 0:
        section |= {"allow": "public", "why": "a test"}
        if "credential" in section.get("restrict", {}):
            del section["restrict"]
    return section


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    more = draw(st.lists(routes(OTHER_PATHS + TENANT_PATHS), max_size=5))
    drawn = [draw(routes(TENANT_PATHS)), *more]
    shop = {
        "name": "shop",
        "host": draw(st.sampled_from(["shop.test", "{tenant}.shop.test"])),
        "upstream": ["https://h"],
        "case": draw(st.sampled_from(["exact", "fold"])),
        "routes": list({route["path"]: route for route in drawn}.values()),
    }
    roles = {name: {"permissions": draw(st.lists(st.sampled_from(PERMISSIONS), unique=True))} for name in ROLE_NAMES}
    file = PolicyFile.model_validate({"permissions": PERMISSIONS, "roles": roles, "applications": [shop]})
    return compile_policy(file)


grants = st.builds(
    Grant,
    st.sampled_from([*ROLE_NAMES, "retired"]),
    st.sampled_from([*TENANTS, "*", "-"]),
    st.sampled_from([None, None, NOW - 1, NOW + 60]),
)
hosts = st.sampled_from(["shop.test", "shop.test", "acme.shop.test", "other.shop.test"])
paths = st.sampled_from(
    ["/", "/a", "/b", "/t", "/t/", "/t/acme", "/t/acme/", "/t/acme/a", "/t/acme/b", "/t/acme/a/b", "/t/other/a",
     "/T/ACME/a", "/t/%61cme/a", "/t/acme%2Fa", "/a/acme", "/t/other/a/b/c", "/a/b/c"]
)  # fmt: skip


@st.composite
def principals(draw: st.DrawFn, held: st.SearchStrategy[frozenset[Grant]]) -> Principal:
    return Principal(
        id=draw(st.sampled_from(["usr_1", "usr_1", "usr_1", ""])),
        name="anna",
        home=draw(st.sampled_from([*TENANTS, "-"])),
        grants=draw(held),
        credential=Credential(draw(st.sampled_from(["session", "session", "token"])), "x"),
        otp_time=draw(st.sampled_from([None, NOW, NOW - 200, NOW - 4000])),
        until=draw(st.sampled_from([None, None, NOW + 100, NOW - 1])),
        applications=draw(st.sampled_from([None, None, frozenset({"shop"}), frozenset({"else"})])),
    )


@st.composite
def matches(draw: st.DrawFn, policy: Policy) -> Match:
    """Mostly a path that some route was written for, at a host that the application has."""
    shop = policy.applications["shop"]
    text, host = draw(paths), draw(hosts)
    if draw(st.integers(0, 4)) < 4:
        pattern = draw(st.sampled_from([shop.routes[0], *shop.routes])).pattern.text
        tail = draw(st.sampled_from(["", "/", "/b", "/a/b"]))
        text = pattern.replace("/**", tail).replace("*", "b").replace("{tenant}", draw(st.sampled_from(TENANTS))) or "/"
        host = shop.host.replace("{tenant}", "acme")
    path = normalise(text.encode())
    assert isinstance(path, NormalPath)
    return policy.match(host, draw(st.sampled_from(["GET", "GET", "HEAD", "POST", "PUT"])), path)


@st.composite
def questions(draw: st.DrawFn) -> tuple[Policy, Question]:
    policy = draw(policies())
    match = draw(matches(policy))
    belonging = st.builds(Grant, st.sampled_from(ROLE_NAMES), st.just(match.tenant or "-"), st.just(None))
    held = st.builds(
        lambda here, anywhere: here | anywhere, st.frozensets(belonging), st.frozensets(grants, max_size=3)
    )
    principal = draw(principals(held))
    address = draw(st.sampled_from([None, INSIDE, INSIDE, parse_address("::1")]))
    return policy, Question(match, principal, NOW, address, draw(st.sampled_from([True, True, True, False])))


@given(questions())
@settings(max_examples=300, deadline=None)
@pytest.mark.advisory("CVE-2026-55670")
@pytest.mark.requirement("ASVS 8.2.2")
def test_no_grant_elsewhere_ever_opens_a_tenant(asked: tuple[Policy, Question]) -> None:
    """Promise 1 of the policy: crossing from one customer to another can't be allowed, whatever the policy says."""
    policy, before = asked
    tenant, route = before.match.tenant, before.match.route
    if route is None or tenant is None or route.is_public:
        return
    elsewhere = frozenset(grant for grant in before.principal.grants if grant.tenant not in (tenant, "*"))
    crossing = before._replace(principal=replace(before.principal, grants=elsewhere))
    decision = decide(policy, crossing)
    assert decision.verdict is not Verdict.ALLOW
    assert decision.permissions == ()
    fresh = crossing._replace(principal=replace(crossing.principal, id="usr_1", otp_time=NOW, until=None))
    assert decide(policy, fresh).verdict is Verdict.DENY, "no sign-in and no code would help"


@given(questions())
@settings(max_examples=200, deadline=None)
@pytest.mark.requirement("ASVS 16.5.3")
def test_decide_is_total_and_keeps_to_its_list(asked: tuple[Policy, Question]) -> None:
    policy, one = asked
    decision = decide(policy, one)
    assert decision == decide(policy, one)
    assert decision.reason in DECIDED[decision.verdict]
    assert decision.permissions == tuple(sorted(set(decision.permissions)))
    assert decision.until is None or (decision.verdict is Verdict.ALLOW and decision.until > NOW)
    verdicts = [step.verdict for step in decision.trace if step.depth == 0]
    assert verdicts[-1] is decision.verdict
    assert all(verdict is Verdict.ALLOW for verdict in verdicts[:-1]), "nothing is passed after a refusal"
    explanation = explain(one, decision)
    assert explanation.as_json["decision"] == decision.verdict
    assert explanation.text.startswith(f"{decision.verdict} ({decision.reason})")


@given(questions(), st.sampled_from([0.0, 0.5, 0.999]))
@settings(max_examples=200, deadline=None)
def test_a_decision_holds_until_it_says(asked: tuple[Policy, Question], part: float) -> None:
    policy, one = asked
    decision = decide(policy, one)
    if decision.verdict is not Verdict.ALLOW:
        return
    later = NOW + 86400.0 * 365 if decision.until is None else NOW + part * (decision.until - NOW)
    again = decide(policy, one._replace(now=later))
    assert (again.verdict, again.reason, again.permissions) == (decision.verdict, decision.reason, decision.permissions)


@given(questions(), st.sampled_from([Grant("reader", "*"), Grant("payer", "acme"), Grant("writer", "-")]))
@settings(max_examples=150, deadline=None)
def test_another_grant_never_takes_anything_away(asked: tuple[Policy, Question], grant: Grant) -> None:
    policy, one = asked
    more = one._replace(principal=replace(one.principal, grants=one.principal.grants | {grant}))
    order = [Verdict.DENY, Verdict.CHALLENGE, Verdict.ALLOW]
    before, after = decide(policy, one), decide(policy, more)
    assert order.index(after.verdict) >= order.index(before.verdict)
    assert set(before.permissions) <= set(after.permissions)


ANY_TIME = st.one_of(st.floats(), st.sampled_from([inf, -inf, nan, NOW, 0.0]))


@given(questions(), ANY_TIME, ANY_TIME, ANY_TIME, ANY_TIME)
@settings(max_examples=150, deadline=None)
@pytest.mark.requirement("ASVS 16.5.3")
def test_no_time_makes_it_raise(
    asked: tuple[Policy, Question], now: float, otp: float, until: float, grant_ends: float
) -> None:
    policy, one = asked
    ended = frozenset(replace(grant, until=grant_ends) for grant in one.principal.grants)
    strange = one._replace(now=now, principal=replace(one.principal, otp_time=otp, until=until, grants=ended))
    explain(strange, decide(policy, strange))


def test_the_questions_above_are_not_empty_talk() -> None:
    """A good share of these questions touches a tenant, and is allowed to whoever belongs there: the properties are
    about something. Counted with a fixed seed, so that it does not come and go."""
    counted = dict.fromkeys(("asked", "touching", "allowed", "allowed_for_all"), 0)

    @given(questions())
    @settings(max_examples=200, deadline=None, derandomize=True, database=None)
    def count(asked: tuple[Policy, Question]) -> None:
        policy, one = asked
        counted["asked"] += 1
        counted["allowed"] += decide(policy, one).verdict is Verdict.ALLOW
        if one.match.route is None or one.match.tenant is None or one.match.route.is_public:
            return
        held = frozenset(Grant(role, one.match.tenant) for role in ROLE_NAMES)
        belonging = Principal("usr_1", "anna", "-", held, Credential("session", "x"), otp_time=NOW)
        asked_there = one._replace(principal=belonging, address=INSIDE, is_tenant_known=True)
        counted["touching"] += 1
        counted["allowed_for_all"] += decide(policy, asked_there).verdict is Verdict.ALLOW

    count()
    assert counted["touching"] > counted["asked"] / 4
    assert counted["allowed"] > counted["asked"] / 8
    assert counted["allowed_for_all"] > counted["touching"] / 2
