import asyncio
import threading
import time

import pytest

from gateway.foundation.errors import StoreUnavailable
from gateway.foundation.principal import ANONYMOUS, Grant
from gateway.identity import directory as module
from gateway.identity import services, sessions, users
from gateway.identity.directory import Directory
from gateway.metrics import Metrics
from gateway.store import people, thread
from gateway.store import sessions as session_rows

HOST = "orders.example"


def open_directory(world, reader):
    return Directory(reader, world.keys.session, world.clock, Metrics(), idle_seconds=3600)


@pytest.fixture
async def directory(world, reader):
    directory = open_directory(world, reader)
    await directory.confirm()
    yield directory
    await directory.stop()


@pytest.fixture
def ada(world):
    return world.bare_person("ada", "support@*")


@pytest.fixture
def session(world, ada):
    return world.session(ada, HOST)[0]


@pytest.fixture
def cookie(world, session):
    return world.host_token(session, HOST)


def no_suspension(awaitable):
    """The result of an await that must not give up its turn."""
    try:
        awaitable.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("it suspended")


def take_away(world) -> None:
    (world.state_dir / "store" / "store.db").rename(world.state_dir / "moved")


@pytest.mark.requirement("ASVS 7.2.1")
async def test_who_holds_the_cookie(world, ada, session, cookie, directory) -> None:
    principal = await directory.session(cookie, HOST)
    assert (principal.id, principal.name, principal.session, principal.credential.id) == (
        ada.id,
        "ada",
        session,
        session,
    )
    assert principal.grants == {Grant("support", "*")}
    assert (principal.amr, principal.otp_time, principal.auth_time) == (
        ("pwd", "otp"),
        world.clock.now(),
        world.clock.now(),
    )
    assert principal.until == world.clock.now() + 43_200
    assert principal.version == directory.position
    assert directory.live_sessions() == 1


@pytest.mark.advisory("CVE-2021-41230")
async def test_the_same_object_without_suspending_until_something_changes(world, cookie, directory) -> None:
    first = await directory.session(cookie, HOST)
    assert no_suspension(directory.session(cookie, HOST)) is first
    world.bare_person("eve")
    await directory.confirm()
    assert no_suspension(directory.session(cookie, HOST)) is first
    users.grant(world.store, "ada", [Grant("finance", "*")], world.clock)
    await directory.confirm()
    second = await directory.session(cookie, HOST)
    assert second is not first
    assert Grant("finance", "*") in second.grants
    assert second.version > first.version


@pytest.mark.parametrize("host", ["billing.example", "login.example", "ORDERS.example", "orders.example.", ""])
@pytest.mark.requirement("SP 800-207 tenet 3")
async def test_a_cookie_carried_to_another_host(cookie, directory, host) -> None:
    assert await directory.session(cookie, HOST)
    assert await directory.session(cookie, host) is None


@pytest.mark.advisory("CVE-2026-25748", "CVE-2026-35030")
async def test_forged_cookies_never_reach_the_store(world, cookie, directory) -> None:
    take_away(world)
    for forged in ("", "x", "A" * 64, cookie[:-1] + ("A" if cookie[-1] != "A" else "B"), cookie + "A", "gwt_" + cookie):
        assert await directory.session(forged, HOST) is None
        assert await directory.service(forged) is None


@pytest.mark.parametrize("was_seen", [True, False])
@pytest.mark.parametrize(
    "revoke",
    [
        lambda world, session: sessions.end(world.store, session, "revoked", world.clock),
        lambda world, session: sessions.end_of_person(world.store, "ada", "revoked", world.clock),
        lambda world, session: sessions.end_all(world.store, "revoked", world.clock),
        lambda world, session: users.disable(world.store, "ada", world.clock),
        lambda world, session: users.remove(world.store, "ada", world.clock),
        lambda world, session: users.reset(world.store, "ada", world.clock),
    ],
)
@pytest.mark.advisory("CVE-2025-29928")
@pytest.mark.requirement("ASVS 7.4.1", "SP 800-63B-4 5.1")
async def test_revoked_at_the_next_poll(world, session, cookie, directory, revoke, was_seen) -> None:
    if was_seen:
        assert await directory.session(cookie, HOST)
    changed: list[frozenset[str]] = []
    directory.on_change = changed.append
    revoke(world, session)
    await directory.confirm()
    assert await directory.session(cookie, HOST) is None
    assert session in frozenset().union(*changed)


@pytest.mark.advisory("CVE-2025-53942")
async def test_a_disabled_person_s_session_is_nobody_s_even_while_it_lives(world, ada, cookie, directory) -> None:
    await directory.session(cookie, HOST)
    world.store.run(lambda c: people.disable(c, ada.id, world.clock.now()))
    await directory.confirm()
    assert await directory.session(cookie, HOST) is None
    world.store.run(lambda c: people.enable(c, ada.id, world.clock.now()))
    await directory.confirm()
    assert (await directory.session(cookie, HOST)).name == "ada"


@pytest.mark.requirement("ASVS 7.2.4")
async def test_a_cookie_that_was_rotated_away(world, session, cookie, directory) -> None:
    assert await directory.session(cookie, HOST)
    newer = world.host_token(session, HOST)
    await directory.confirm()
    assert await directory.session(newer, HOST)
    assert await directory.session(cookie, HOST) is None
    assert await directory.session(newer, HOST)


async def test_a_session_younger_than_the_last_poll(world, ada, directory) -> None:
    session, given = world.session(ada, HOST)
    assert (await directory.session(given[HOST], HOST)).session == session


async def test_nobody_is_asked_twice_about_what_is_unknown(world, session, cookie, directory, monkeypatch) -> None:
    sessions.end(world.store, session, "revoked", world.clock)
    await directory.confirm()
    assert await directory.session(cookie, HOST) is None
    asked = []
    monkeypatch.setattr(directory._follower, "confirm", lambda: asked.append(1))
    assert no_suspension(directory.session(cookie, HOST)) is None
    assert not asked


async def test_a_stale_copy_asks_the_store_and_then_knows(world, session, cookie, directory) -> None:
    await directory.session(cookie, HOST)
    world.clock.advance(1)
    sessions.end(world.store, session, "revoked", world.clock)
    assert not directory.is_current
    assert await directory.session(cookie, HOST) is None
    assert directory.is_current


@pytest.mark.parametrize(("seconds", "is_asked"), [(0.749, False), (0.75, True)])
@pytest.mark.requirement("promise 2")
async def test_a_copy_is_believed_for_750_ms_and_no_longer(world, ada, session, cookie, directory, seconds, is_asked):
    """Whatever becomes of the polls: what was revoked the moment after the last one ends then, streams included."""
    principal = await directory.session(cookie, HOST)
    sessions.end(world.store, session, "revoked", world.clock)
    world.clock.advance(seconds)
    found = None if is_asked else principal
    assert directory.session_at_once(cookie, HOST) is found
    assert await directory.current(principal) is found
    assert await directory.session(cookie, HOST) is found


async def test_a_stale_copy_without_a_store_is_no_answer(world, cookie, directory) -> None:
    token = services.create(
        world.store, services.NewToken("ci"), world.keys.session, world.clock, world.entropy
    ).secret.reveal()
    principal = await directory.session(cookie, HOST)
    service = await directory.service(token)
    take_away(world)
    assert await directory.session(cookie, HOST) is principal
    world.clock.advance(1)
    for question in (
        lambda: directory.session(cookie, HOST),
        lambda: directory.service(token),
        lambda: directory.current(principal),
        lambda: directory.current(service),
    ):
        with pytest.raises(StoreUnavailable):
            await question()
    assert directory.last_known_service(token) is service


async def test_an_unknown_cookie_without_a_store_is_no_answer(world, ada, directory) -> None:
    _, given = world.session(ada, HOST)
    take_away(world)
    with pytest.raises(StoreUnavailable):
        await directory.session(given[HOST], HOST)


async def test_a_store_that_hangs_is_waited_for_half_a_second(world, cookie, directory, reader, monkeypatch) -> None:
    monkeypatch.setattr(thread, "DEADLINE_SECONDS", 0.5)
    world.clock.advance(1)
    gate = threading.Event()
    stuck = asyncio.ensure_future(reader.ask(lambda _: gate.wait(5), 5.0))
    began = time.monotonic()
    answers = await asyncio.gather(*(directory.session(cookie, HOST) for _ in range(50)), return_exceptions=True)
    assert time.monotonic() - began < 1.0
    assert all(isinstance(answer, StoreUnavailable) for answer in answers)
    gate.set()
    await stuck
    assert await directory.session(cookie, HOST)


@pytest.mark.parametrize(("seconds", "lives"), [(43_199, True), (43_200, False)])
@pytest.mark.advisory("CVE-2024-21492")
@pytest.mark.requirement("ASVS 7.3.2", "SP 800-63B-4 5.2", "SP 800-63B-4 2.2.3")
async def test_absolute_end(world, session, cookie, directory, seconds, lives) -> None:
    principal = await directory.session(cookie, HOST)
    world.clock.advance(seconds)
    directory._held[session].last_used = world.clock.now()
    assert (await directory.session(cookie, HOST) is principal) is lives
    assert (await directory.current(principal) is not None) is lives


@pytest.mark.parametrize(("seconds", "lives"), [(3599, True), (3600, False)])
@pytest.mark.advisory("CVE-2024-21492")
@pytest.mark.requirement("ASVS 7.3.1", "SP 800-63B-4 5.2")
async def test_idle_end(world, cookie, directory, seconds, lives) -> None:
    principal = await directory.session(cookie, HOST)
    assert directory.idle_at(principal) == world.clock.now() + 3600
    world.clock.advance(seconds)
    assert (await directory.current(principal) is not None) is lives
    assert (await directory.session(cookie, HOST) is not None) is lives


@pytest.mark.requirement("ASVS 7.3.1", "SP 800-63B-4 5.2")
async def test_each_use_moves_the_idle_end(world, cookie, directory) -> None:
    for _ in range(5):
        world.clock.advance(3000)
        assert await directory.session(cookie, HOST)


async def test_idle_here_and_used_at_another_worker(world, session, cookie, directory) -> None:
    await directory.session(cookie, HOST)
    world.clock.advance(3500)
    sessions.record_uses(world.store, {session: world.clock.now()})
    world.clock.advance(200)
    assert await directory.session(cookie, HOST)
    world.clock.advance(3600)
    assert await directory.session(cookie, HOST) is None


async def test_idle_at_a_worker_that_never_saw_it(world, session, cookie, reader) -> None:
    world.clock.advance(3600)
    late = open_directory(world, reader)
    assert await late.session(cookie, HOST) is None
    sessions.record_uses(world.store, {session: world.clock.now()})
    world.clock.advance(1)
    assert await late.session(cookie, HOST)


async def test_idle_and_the_store_does_not_say(world, cookie, directory) -> None:
    await directory.session(cookie, HOST)
    world.clock.advance(3600)
    await directory.confirm()
    take_away(world)
    with pytest.raises(StoreUnavailable):
        await directory.session(cookie, HOST)


async def test_an_idle_cookie_that_is_sent_again_and_again_costs_one_question_a_second(
    world, cookie, directory, reader, monkeypatch
) -> None:
    await directory.session(cookie, HOST)
    world.clock.advance(3600)
    await directory.confirm()
    asked = []
    real = type(reader).last_used
    monkeypatch.setattr(type(reader), "last_used", lambda *a: asked.append(1) or real(*a))
    for _ in range(20):
        assert await directory.session(cookie, HOST) is None
    assert len(asked) == 1


async def test_a_session_that_changes_while_its_use_is_asked_for(world, session, cookie, directory) -> None:
    await directory.session(cookie, HOST)
    world.clock.advance(3600)
    sessions.record_uses(world.store, {session: world.clock.now()})
    await directory.confirm()
    question = asyncio.create_task(directory.session(cookie, HOST))
    await asyncio.sleep(0)
    directory._changed(frozenset({session}))
    assert (await question).session == session


async def test_a_stream_whose_session_changes_while_its_use_is_asked_for(world, session, cookie, directory) -> None:
    principal = await directory.session(cookie, HOST)
    world.clock.advance(3600)
    sessions.record_uses(world.store, {session: world.clock.now()})
    await directory.confirm()
    question = asyncio.create_task(directory.current(principal))
    await asyncio.sleep(0)
    directory._changed(frozenset({session}))
    assert (await question).session == session


async def test_nobody_stays_nobody_without_a_store(world, directory) -> None:
    take_away(world)
    world.clock.advance(1)
    assert await directory.current(ANONYMOUS) is ANONYMOUS


async def test_uses_are_drained_once_a_minute(world, session, cookie, directory) -> None:
    began = world.clock.now()
    for _ in range(3):
        await directory.session(cookie, HOST)
    assert directory.drain_uses() == {}
    world.clock.advance(60)
    for _ in range(3):
        await directory.session(cookie, HOST)
    world.clock.advance(0.5)
    await directory.session(cookie, HOST)
    assert directory.drain_uses() == {session: began + 60.5}
    await directory.session(cookie, HOST)
    assert directory.drain_uses() == {}


async def test_a_use_survives_a_change_of_the_session(world, session, cookie, directory) -> None:
    await directory.session(cookie, HOST)
    world.clock.advance(3000)
    await directory.session(cookie, HOST)
    world.store.run(lambda c: session_rows.renew_otp(c, session, world.clock.now(), world.clock.now()))
    await directory.confirm()
    world.clock.advance(3000)
    principal = await directory.session(cookie, HOST)
    assert principal.otp_time == world.clock.now() - 3000
    assert directory.drain_uses() == {session: world.clock.now()}


async def test_asking_for_the_present_state_is_no_use(world, cookie, directory) -> None:
    principal = await directory.session(cookie, HOST)
    world.clock.advance(3000)
    assert await directory.current(principal) is principal
    world.clock.advance(600)
    assert await directory.current(principal) is None


async def test_the_present_state_of_what_ended(world, session, cookie, directory) -> None:
    principal = await directory.session(cookie, HOST)
    sessions.end(world.store, session, "revoked", world.clock)
    await directory.confirm()
    assert await directory.current(principal) is None


async def test_services(world, directory) -> None:
    new = services.NewToken("ci", frozenset({Grant("support", "*")}), frozenset({"orders"}), 3600.0)
    created = services.create(world.store, new, world.keys.session, world.clock, world.entropy)
    secret = created.secret.reveal()
    principal = await directory.service(secret)
    assert (principal.id, principal.name, principal.credential.kind, principal.credential.id) == (
        created.token.account,
        "ci",
        "token",
        created.token.id,
    )
    assert (principal.grants, principal.applications) == ({Grant("support", "*")}, {"orders"})
    assert (principal.session, principal.otp_time, principal.is_service) == ("", None, True)
    assert no_suspension(directory.service(secret)) is principal
    world.bare_person("eve")
    await directory.confirm()
    assert await directory.service(secret) is principal
    assert await directory.current(principal) is principal
    world.clock.advance(3600)
    assert await directory.service(secret) is None
    assert directory.last_known_service(secret) is None


@pytest.mark.advisory("CVE-2025-53942")
async def test_a_revoked_service_token(world, directory) -> None:
    created = services.create(world.store, services.NewToken("ci"), world.keys.session, world.clock, world.entropy)
    secret = created.secret.reveal()
    principal = await directory.service(secret)
    services.revoke(world.store, "ci", world.clock)
    await directory.confirm()
    assert await directory.service(secret) is None
    assert await directory.current(principal) is None
    assert directory.last_known_service(secret) is None


@pytest.mark.requirement("ASVS 9.2.2")
async def test_tokens_of_one_kind_are_nothing_to_the_other(world, cookie, directory) -> None:
    created = services.create(world.store, services.NewToken("ci"), world.keys.session, world.clock, world.entropy)
    secret = created.secret.reveal()
    assert await directory.session(secret, HOST) is None
    assert await directory.session(secret.removeprefix("gwt_"), HOST) is None
    assert await directory.service(cookie) is None
    assert directory.last_known_service(cookie) is None


async def test_tenants(world, directory) -> None:
    assert not directory.knows_tenant("acme")
    users.add_tenants(world.store, ["acme"], world.clock)
    await directory.confirm()
    assert directory.knows_tenant("acme")
    users.close_tenant(world.store, "acme", world.clock)
    await directory.confirm()
    assert not directory.knows_tenant("acme")


async def test_what_is_remembered_is_bounded(world, ada, directory, monkeypatch) -> None:
    monkeypatch.setattr(module, "MOST_REMEMBERED", 4)
    for _ in range(6):
        live, given = world.session(ada, HOST)
        assert await directory.session(given[HOST], HOST)
        ended, given = world.session(ada, HOST)
        sessions.end(world.store, ended, "revoked", world.clock)
        assert await directory.session(given[HOST], HOST) is None
        assert live
    assert len(directory._verified) <= 4
    assert len(directory._unknown) <= 4


async def test_nothing_is_kept_of_sessions_that_ended(world, session, cookie, directory) -> None:
    await directory.session(cookie, HOST)
    world.clock.advance(43_200)
    await directory.confirm()
    assert directory._held == {}
    assert directory.live_sessions() == 0


async def test_starts_and_stops(world, cookie, reader) -> None:
    directory = open_directory(world, reader)
    assert (directory.position, directory.live_sessions(), directory.knows_tenant("acme")) == (-1, 0, False)
    assert directory.last_known_service("gwt_x") is None
    await directory.start()
    assert no_suspension(directory.session("forged", HOST)) is None
    assert await directory.session(cookie, HOST)
    assert "current" in repr(directory) or "Follower" in repr(directory)
    await directory.stop()


async def test_without_a_store_it_does_not_start(world, reader) -> None:
    take_away(world)
    with pytest.raises(StoreUnavailable):
        await open_directory(world, reader).start()


async def test_changes_while_loading_are_not_lost(world, ada, reader) -> None:
    """A session is revoked right after everything was read, and before the copy is in place."""
    session, given = world.session(ada, HOST)
    real = type(reader).load_all_live

    def then_revoke(self, now):
        state = real(self, now)
        sessions.end(world.store, session, "revoked", world.clock)
        return state

    type(reader).load_all_live = then_revoke
    try:
        directory = open_directory(world, reader)
        await directory.confirm()
    finally:
        type(reader).load_all_live = real
    await directory.confirm()
    assert await directory.session(given[HOST], HOST) is None
