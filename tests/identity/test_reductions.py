"""The journal's word against an older store's."""

import pytest

from gateway.audit.events import EventName, event
from gateway.audit.journal import Journal
from gateway.foundation.principal import Grant
from gateway.identity import users
from gateway.identity.reductions import read_reductions
from gateway.store import factors, people, tenants


@pytest.fixture
def record(world, state_dir):
    """Events as a gateway records them, each a second after the one before."""
    journal = Journal(state_dir, "keeper", "node", clock=world.clock, entropy=world.entropy)
    journal.prepare()

    def tell(name: EventName, **fields: object) -> None:
        world.clock.advance(1)
        journal.commit_now(event(name, world.clock.now(), **fields))

    yield tell
    journal.close_now()


@pytest.fixture
def repeat(world, state_dir):
    def run(since: float) -> list[str]:
        reductions = read_reductions(state_dir, since)
        return world.store.run(lambda c: [str(each) for each in reductions.repeat(c, world.clock.now())])

    return run


def test_what_was_taken_since_is_taken_again(world, record, repeat) -> None:
    users.add_tenants(world.store, ["acme", "beta"], world.clock)
    ada, eve = world.person("ada", "support@acme", "staff@-"), world.person("eve")
    since = world.clock.now()
    record(EventName.USER_DISABLE, user=ada.id)
    record(EventName.GRANT_REMOVE, user=ada.id, grant="support@acme")
    record(EventName.USER_RESET, user=ada.id)
    record(EventName.USER_REMOVE, user=eve.id)
    record(EventName.TENANT_CLOSE, tenant="beta")
    assert repeat(since) == [
        f"user:disable {ada.id}",
        f"grant:remove {ada.id} support@acme",
        f"user:reset {ada.id}",
        f"user:remove {eve.id}",
        "tenant:close beta",
    ]
    found = world.store.read(lambda c: people.get(c, ada.id))
    assert (found.is_active, found.grants) == (False, {Grant("staff", "-")})
    assert world.store.read(lambda c: factors.has_any(c, ada.id)) is False
    assert world.store.read(lambda c: people.get(c, eve.id)).removed_at is not None
    assert world.store.read(tenants.open_names) == {"acme"}
    assert repeat(since) == []


def test_what_was_taken_before_is_the_snapshots_own_word(world, record, repeat) -> None:
    ada = world.person("ada")
    record(EventName.USER_DISABLE, user=ada.id)
    world.clock.advance(1)
    assert repeat(world.clock.now()) == []
    assert world.store.read(lambda c: people.get(c, ada.id)).is_active


def test_what_was_given_back_is_not_taken_again(world, record, repeat) -> None:
    ada = world.person("ada", "staff@-")
    since = world.clock.now()
    record(EventName.USER_DISABLE, user=ada.id)
    record(EventName.GRANT_REMOVE, user=ada.id, grant="staff@-")
    record(EventName.USER_ENABLE, user=ada.id)
    record(EventName.GRANT_ADD, user=ada.id, grant="staff@-")
    assert repeat(since) == []
    record(EventName.USER_DISABLE, user=ada.id)
    assert repeat(since) == [f"user:disable {ada.id}"]


def test_nothing_that_was_given_is_given_again(world, record, repeat) -> None:
    ada = world.person("ada")
    users.disable(world.store, "ada", world.clock)
    since = world.clock.now()
    record(EventName.USER_ENABLE, user=ada.id)
    record(EventName.GRANT_ADD, user=ada.id, grant="staff@-")
    assert repeat(since) == []
    assert world.store.read(lambda c: people.get(c, ada.id)).is_active is False


@pytest.mark.parametrize("name", [EventName.ENROLMENT_DONE, EventName.FACTOR_ADD, EventName.USER_RESET])
def test_factors_from_before_a_replacement_are_forgotten(world, record, repeat, name) -> None:
    ada = world.person("ada")
    since = world.clock.now()
    record(name, user=ada.id)
    assert repeat(since) == [f"user:reset {ada.id}"]
    assert world.store.read(lambda c: factors.has_any(c, ada.id)) is False


def test_who_the_snapshot_does_not_know_is_passed_over(world, record, repeat) -> None:
    since = world.clock.now()
    for name in (EventName.USER_DISABLE, EventName.USER_REMOVE, EventName.USER_RESET):
        record(name, user="usr_later")
    record(EventName.GRANT_REMOVE, user="usr_later", grant="staff@-")
    record(EventName.TENANT_CLOSE, tenant="later")
    assert repeat(since) == []


def test_lines_that_cannot_be_read_are_counted(world, record, state_dir) -> None:
    record(EventName.SIGN_OUT)
    (chain,) = (state_dir / "journal").iterdir()
    segment = chain / "00000001.jsonl"
    segment.write_bytes(segment.read_bytes().rstrip(b"\0") + b"nonsense\n")
    assert read_reductions(state_dir, 0.0).unreadable == 1
    assert read_reductions(state_dir / "none", 0.0).taken == {}


def test_a_worker_that_was_taken_over_gives_nothing_back(world, state_dir, record, repeat) -> None:
    ada, since = world.person("ada"), world.clock.now()
    record(EventName.USER_DISABLE, user=ada.id)
    worker = Journal(state_dir, "worker-1", "node", clock=world.clock, entropy=world.entropy)
    worker.prepare()
    world.clock.advance(1)
    worker.commit_now(event(EventName.USER_ENABLE, world.clock.now(), user=ada.id))
    worker.close_now()
    assert repeat(since) == [f"user:disable {ada.id}"]
