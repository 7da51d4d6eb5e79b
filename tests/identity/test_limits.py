import pytest

from gateway.foundation.errors import StoreUnavailable
from gateway.identity.limits import (
    AUTHENTICATOR_FAILURES,
    LIMITS,
    Counted,
    admit,
    device_cookie,
    forgive,
    session_counters,
    sign_in_counters,
)

FACTORS = "aut_1"


def admitted(world, counters) -> int | None:
    return world.store.run(lambda c: admit(c, counters, world.clock.now()))


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
    plain = sign_in_counters(keys, "ada", FACTORS, world.client)
    assert [kind for kind, _ in plain] == [Counted.ACCOUNT, Counted.CLIENT]
    known = sign_in_counters(
        keys, "ada", FACTORS, world.from_("192.0.2.7", device_cookie(keys, FACTORS, world.entropy))
    )
    assert [kind for kind, _ in known] == [Counted.DEVICE, Counted.DEVICES]
    assert [kind for kind, _ in session_counters("ses_1")] == [Counted.SESSION]


def test_device_cookies_that_were_not_earned_with_these_factors(world) -> None:
    keys = world.keys.session
    others = [
        "",
        "x",
        "A" * 64,
        device_cookie(keys, "aut_2", world.entropy),
        device_cookie(world.symmetric("session"), FACTORS, world.entropy),
    ]
    for device in others:
        counters = sign_in_counters(keys, "ada", FACTORS, world.from_("192.0.2.7", device))
        assert counters == sign_in_counters(keys, "ada", FACTORS, world.client)
    nobody_s = world.from_("192.0.2.7", device_cookie(keys, "", world.entropy))
    assert sign_in_counters(keys, "ada", "", nobody_s) == sign_in_counters(keys, "ada", "", world.client)


def test_addresses_of_one_client_count_together(world) -> None:
    def client(address: str) -> str:
        return dict(sign_in_counters(world.keys.session, "ada", FACTORS, world.from_(address)))[Counted.CLIENT]

    assert client("2001:db8::1") == client("2001:db8::ffff") != client("2001:db8:0:1::1")
    assert client("::ffff:192.0.2.7") == client("192.0.2.7") != client("192.0.2.8")


@pytest.mark.parametrize("name", ["olga", "\ud800", "x" * 1000])
def test_no_name_shows_and_odd_ones_don_t_break_it(world, name) -> None:
    """Counters are hexadecimal, and each of these names holds a letter that no such number has."""
    account = dict(sign_in_counters(world.keys.session, name, FACTORS, world.client))[Counted.ACCOUNT]
    assert name not in account
    assert account != dict(sign_in_counters(world.keys.session, "", FACTORS, world.client))[Counted.ACCOUNT]


def test_forgiving_forgets_the_account_and_not_the_client(world) -> None:
    counters = sign_in_counters(world.keys.session, "ada", FACTORS, world.client)
    for _ in range(LIMITS[Counted.ACCOUNT].attempts):
        admitted(world, counters)
    world.store.run(lambda c: forgive(c, counters))
    for n in range(LIMITS[Counted.CLIENT].attempts - LIMITS[Counted.ACCOUNT].attempts):
        assert admitted(world, sign_in_counters(world.keys.session, f"name{n}", FACTORS, world.client)) is None
    assert admitted(world, sign_in_counters(world.keys.session, "ada", FACTORS, world.client)) is not None


def test_a_store_that_can_t_count_admits_nobody(world) -> None:
    (world.state_dir / "store" / "store.db").rename(world.state_dir / "moved")
    with pytest.raises(StoreUnavailable):
        admitted(world, ((Counted.CLIENT, "x"),))
