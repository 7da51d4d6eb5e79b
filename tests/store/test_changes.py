"""The feed is complete: whatever changes authority leaves an entry, and a function that nobody listed is an error."""

import inspect
from types import ModuleType

import pytest

from gateway.foundation.principal import Grant
from gateway.store import changes, grants, people, sessions, tenants, tokens
from gateway.store.changes import Change

HOST = "orders.example"


# Each on a store with: ada (support@acme, a session), the tenant acme, the service token tok_1 (support@acme).
def expiring(now: float) -> sessions.Session:
    return sessions.Session("ses_expiring", "usr_ada", now - 9, now, now - 9, ("pwd", "otp"), "Firefox")


RECORDED = {
    people.add: (lambda c, w: people.add(c, people.Person("usr_bob", "bob", "", "-", w.now)), {("person", "usr_bob")}),
    people.disable: (lambda c, w: people.disable(c, "usr_ada", w.now), {("person", "usr_ada")}),
    people.enable: (
        lambda c, w: people.disable(c, "usr_ada", w.now) and people.enable(c, "usr_ada", w.now),
        {("person", "usr_ada")},
    ),
    people.remove: (lambda c, w: people.remove(c, "usr_ada", w.now), {("person", "usr_ada")}),
    grants.add: (lambda c, w: grants.add(c, "usr_ada", Grant("admin", "-"), w.now), {("person", "usr_ada")}),
    grants.remove: (lambda c, w: grants.remove(c, "usr_ada", Grant("support", "acme"), w.now), {("person", "usr_ada")}),
    sessions.put_host_token: (
        lambda c, w: sessions.put_host_token(c, w.host_token("ses_1", HOST), w.now),
        {("session", "ses_1")},
    ),
    sessions.renew_otp: (lambda c, w: sessions.renew_otp(c, "ses_1", w.now, w.now), {("session", "ses_1")}),
    sessions.end: (lambda c, w: sessions.end(c, "ses_1", "", w.now), {("session", "ses_1")}),
    sessions.end_of_person: (lambda c, w: sessions.end_of_person(c, "usr_ada", "", w.now), {("session", "ses_1")}),
    sessions.end_of_tenant: (lambda c, w: sessions.end_of_tenant(c, "acme", "", w.now), {("session", "ses_1")}),
    sessions.end_all: (lambda c, w: sessions.end_all(c, "", w.now), {("session", "ses_1")}),
    sessions.end_idle: (lambda c, w: sessions.end_idle(c, w.now, w.now), {("session", "ses_1")}),
    tokens.create: (
        lambda c, w: tokens.create(c, tokens.ServiceToken("tok_2", "svc_ci", "ci", w.hashed("2"), None, w.now, None)),
        {("token", "tok_2")},
    ),
    tokens.revoke: (lambda c, w: tokens.revoke(c, "tok_1", w.now), {("token", "tok_1")}),
    tokens.revoke_all: (lambda c, w: tokens.revoke_all(c, w.now), {("token", "tok_1")}),
    sessions.end_expired: (
        lambda c, w: (sessions.create(c, expiring(w.now)), sessions.end_expired(c, w.now)),
        {("session", "ses_expiring")},
    ),
    tenants.add: (lambda c, w: tenants.add(c, "other", w.now), {("tenant", "other")}),
    tenants.close: (
        lambda c, w: tenants.close(c, "acme", w.now),
        {("tenant", "acme"), ("person", "usr_ada"), ("token", "tok_1")},
    ),
}

UNRECORDED = {
    "people": {"get", "find", "listing", "present", "content", "contents"},
    "grants": {"of", "everyone", "gathered", "content"},
    # A session or account without a token can ask nothing; a swept session had ended before.
    "sessions": {
        "create",
        "touch",
        "get",
        "listing",
        "sweep",
        "selected",
        "from_row",
        "host_token_from_row",
        "is_live",
        "is_genuine",
        "unended",
        "content",
        "contents",
    },
    "tokens": {"account", "add_account", "get", "listing", "unrevoked", "content", "contents"},
    "tenants": {"find", "listing", "open_names", "require_nameable", "content", "contents"},
}


@pytest.fixture
def inhabited(world):
    world.tenant("acme")
    world.session(world.person("ada", "support@acme"))
    world.token("tok_1", "support@acme")
    return world


@pytest.mark.parametrize("function", RECORDED, ids=lambda function: f"{function.__module__}.{function.__name__}")
def test_what_changes_authority_is_in_the_feed(store, inhabited, function):
    work, expected = RECORDED[function]
    before = store.read(changes.position)
    store.run(lambda c: work(c, inhabited))
    feed = store.read(lambda c: changes.since(c, before))
    assert {(change.kind, change.key) for change in feed.changes} == expected
    assert {change.at for change in feed.changes} == {inhabited.now}


@pytest.mark.parametrize("function", RECORDED, ids=lambda function: f"{function.__module__}.{function.__name__}")
def test_what_is_rolled_back_is_in_no_feed(store, inhabited, function):
    def fails(connection) -> None:
        RECORDED[function][0](connection, inhabited)
        raise RuntimeError

    before = store.read(changes.position)
    with pytest.raises(RuntimeError):
        store.run(fails)
    assert store.read(lambda c: changes.since(c, before)).changes == ()


@pytest.mark.parametrize("module", [people, grants, sessions, tokens, tenants])
def test_every_function_is_listed_here(module: ModuleType):
    own = {
        name
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if function.__module__ == module.__name__ and not name.startswith("_")
    }
    recorded = {function.__name__ for function in RECORDED if function.__module__ == module.__name__}
    assert own == recorded | UNRECORDED[module.__name__.rpartition(".")[2]]


def test_what_changed_nothing_is_in_no_feed(store, inhabited):
    now = inhabited.now
    store.run(lambda c: people.disable(c, "usr_ada", now))
    store.run(lambda c: sessions.end(c, "ses_1", "", now))
    store.run(lambda c: tokens.revoke(c, "tok_1", now))
    before = store.read(changes.position)
    store.run(lambda c: people.disable(c, "usr_ada", now))
    store.run(lambda c: grants.remove(c, "usr_ada", Grant("admin", "-"), now))
    store.run(lambda c: sessions.end(c, "ses_1", "", now))
    store.run(lambda c: sessions.end_all(c, "", now))
    store.run(lambda c: sessions.renew_otp(c, "ses_1", now, now))
    store.run(lambda c: tokens.revoke(c, "tok_1", now))
    store.run(lambda c: sessions.touch(c, {"ses_1": now + 1}))
    assert store.read(changes.position) == before


def record(store, *keys: str) -> None:
    for key in keys:
        store.run(lambda c, k=key: changes.record(c, "person", k, 1.0))


def test_a_follower_sees_each_step_once_and_in_order(store):
    assert store.read(lambda c: changes.since(c, 0)) == changes.Feed((), 0, truncated=False)
    record(store, "a", "b", "a")
    feed = store.read(lambda c: changes.since(c, 1))
    assert feed == changes.Feed((Change(2, "person", "b", 1.0), Change(3, "person", "a", 1.0)), 3, truncated=False)
    assert store.read(lambda c: changes.since(c, 3)) == changes.Feed((), 3, truncated=False)


def test_a_follower_that_lags_behind_the_floor_is_told(store):
    record(store, *"abcde")
    assert store.run(lambda c: changes.prune(c, keep=2)) == 3
    assert [change.key for change in store.read(lambda c: changes.since(c, 3)).changes] == ["d", "e"]
    assert store.read(lambda c: changes.since(c, 3)).truncated is False
    assert store.read(lambda c: changes.since(c, 2)).truncated is True
    assert store.run(lambda c: changes.prune(c, keep=2)) == 0
    assert store.run(lambda c: changes.prune(c, keep=100)) == 0


def test_positions_go_on_after_everything_was_pruned(store):
    record(store, "a", "b")
    assert store.run(lambda c: changes.prune(c, keep=0)) == 2
    assert store.read(changes.position) == 2
    assert store.read(lambda c: changes.since(c, 2)) == changes.Feed((), 2, truncated=False)
    assert store.read(lambda c: changes.since(c, 1)).truncated is True
    record(store, "c")
    assert store.read(lambda c: changes.since(c, 2)).changes == (Change(3, "person", "c", 1.0),)


def test_a_position_from_another_store_is_told(store):
    record(store, "a")
    feed = store.read(lambda c: changes.since(c, 7))
    assert (feed.truncated, feed.position) == (True, 1)
