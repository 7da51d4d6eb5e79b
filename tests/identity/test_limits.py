import pytest

from gateway.foundation.errors import StoreUnavailable
from gateway.identity.devices import Device
from gateway.identity.limits import (
    AUTHENTICATOR_FAILURES,
    LIMITS,
    Counted,
    admit,
    forget_passwords,
    forgive,
    password_in_a_row,
    session_counters,
    sign_in_counters,
    take_back,
)

FACTORS = "aut_1"


def admitted(world, counters) -> int | None:
    return world.store.run(lambda c: admit(c, counters, world.clock.now()))


@pytest.mark.requirement("ASVS 6.1.1")
def test_every_kind_has_its_numbers() -> None:
    assert LIMITS.keys() == set(Counted)
    # NIST SP 800-63B-4, 3.2.2.
    assert AUTHENTICATOR_FAILURES <= 100


@pytest.mark.parametrize("kind", list(Counted))
def test_so_many_and_no_more(world, kind) -> None:
    counters = ((kind, "x"),)
    for _ in range(LIMITS[kind].attempts):
        assert admitted(world, counters) is None
    assert admitted(world, counters) == LIMITS[kind].window_seconds
    assert admitted(world, ((kind, "y"),)) is None
    world.clock.advance(2 * LIMITS[kind].window_seconds)
    assert admitted(world, counters) is None


def test_side_by_side_all_are_counted(world) -> None:
    counters = ((Counted.SESSION, "x"),)
    answers = world.side_by_side(*[lambda: admitted(world, counters)] * 12)
    assert answers.count(None) == LIMITS[Counted.SESSION].attempts


def test_one_that_is_over_stops_all_without_counting_the_others(world) -> None:
    over, other = (Counted.SESSION, "over"), (Counted.ACCOUNT, "other")
    for _ in range(LIMITS[Counted.SESSION].attempts):
        admitted(world, (over,))
    for _ in range(2 * LIMITS[Counted.ACCOUNT].attempts):
        assert admitted(world, (over, other)) is not None
    assert admitted(world, (other,)) is None


def test_what_counts_for_whom(world) -> None:
    keys = world.keys.session
    plain = sign_in_counters(keys, "ada", FACTORS, world.client, None)
    assert [kind for kind, _ in plain] == [Counted.ACCOUNT, Counted.CLIENT]
    known = sign_in_counters(keys, "ada", FACTORS, world.client, Device("d1", FACTORS))
    assert [kind for kind, _ in known] == [Counted.DEVICE, Counted.DEVICES]
    assert known[0] != sign_in_counters(keys, "ada", FACTORS, world.client, Device("d2", FACTORS))[0]
    assert [kind for kind, _ in session_counters("ses_1")] == [Counted.SESSION]


@pytest.mark.parametrize(("earned_with", "factors"), [("aut_2", FACTORS), ("", FACTORS), ("", ""), (FACTORS, "")])
def test_a_browser_that_was_here_with_other_factors_is_a_stranger(world, earned_with, factors) -> None:
    counters = sign_in_counters(world.keys.session, "ada", factors, world.client, Device("d1", earned_with))
    assert counters == sign_in_counters(world.keys.session, "ada", factors, world.client, None)


@pytest.mark.requirement("ASVS 15.3.4")
def test_addresses_of_one_client_count_together(world) -> None:
    def client(address: str) -> str:
        return dict(sign_in_counters(world.keys.session, "ada", FACTORS, world.from_(address), None))[Counted.CLIENT]

    assert client("2001:db8::1") == client("2001:db8::ffff") != client("2001:db8:0:1::1")
    assert client("::ffff:192.0.2.7") == client("192.0.2.7") != client("192.0.2.8")


@pytest.mark.parametrize("name", ["olga", "\ud800", "x" * 1000])
def test_no_name_shows_and_odd_ones_don_t_break_it(world, name) -> None:
    """Counters are hexadecimal, and each of these names holds a letter that no such number has."""
    account = dict(sign_in_counters(world.keys.session, name, FACTORS, world.client, None))[Counted.ACCOUNT]
    assert name not in account
    assert account != dict(sign_in_counters(world.keys.session, "", FACTORS, world.client, None))[Counted.ACCOUNT]


def test_forgiving_forgets_the_account_and_of_the_client_what_was_right(world) -> None:
    counters = sign_in_counters(world.keys.session, "ada", FACTORS, world.client, None)
    for _ in range(LIMITS[Counted.ACCOUNT].attempts):
        assert admitted(world, counters) is None
    world.store.run(lambda c: forgive(c, counters, world.clock.now()))
    left = LIMITS[Counted.CLIENT].attempts - (LIMITS[Counted.ACCOUNT].attempts - 1)
    for n in range(left):
        others = sign_in_counters(world.keys.session, f"name{n}", FACTORS, world.client, None)
        assert admitted(world, others) is None
    assert admitted(world, counters) is not None


def test_what_was_right_is_taken_back_from_the_client_alone(world) -> None:
    counters = sign_in_counters(world.keys.session, "ada", FACTORS, world.client, None)
    for _ in range(LIMITS[Counted.ACCOUNT].attempts):
        assert admitted(world, counters) is None
        world.store.run(lambda c: take_back(c, counters, world.clock.now()))
    assert admitted(world, counters) is not None
    (client,) = [counter for counter in counters if counter[0] is Counted.CLIENT]
    for _ in range(LIMITS[Counted.CLIENT].attempts):
        assert admitted(world, (client,)) is None


def test_passwords_in_a_row_are_counted_for_ever_and_strangers_apart(world) -> None:
    def in_a_row(person: str, *, known: bool) -> int:
        return world.store.run(lambda c: password_in_a_row(c, person, world.clock.now(), known=known))

    for n in range(1, 4):
        assert in_a_row("usr_1", known=False) == n
        world.clock.advance(400 * 86_400)
    assert in_a_row("usr_1", known=True) == 1
    assert in_a_row("usr_2", known=False) == 1
    world.store.run(lambda c: forget_passwords(c, "usr_1"))
    assert in_a_row("usr_1", known=False) == in_a_row("usr_1", known=True) == 1


def test_a_store_that_can_t_count_admits_nobody(world) -> None:
    (world.state_dir / "store" / "store.db").rename(world.state_dir / "moved")
    with pytest.raises(StoreUnavailable):
        admitted(world, ((Counted.CLIENT, "x"),))
