"""Which idle connection is used next, and how many there may be."""

from gateway.proxy.pool import Pool


def filled(*names: str, limit: int = 8) -> Pool[str]:
    pool: Pool[str] = Pool(limit, idle_seconds=30)
    for at, name in enumerate(names):
        pool.opening()
        pool.give_back(name, float(at))
    return pool


def test_the_one_used_last_is_taken_first() -> None:
    pool = filled("a", "b", "c")
    assert [pool.take() for _ in range(4)] == ["c", "b", "a", None]


def test_idle_and_busy_ones_count_together() -> None:
    pool = filled("a", "b", limit=3)
    assert pool.has_room
    pool.opening()
    assert not pool.has_room
    assert pool.take() == "b"
    assert not pool.has_room
    assert repr(pool) == "<Pool idle=1 busy=2 limit=3>"


def test_one_that_closed_leaves_room_whatever_it_did() -> None:
    pool = filled("idle", "busy", limit=3)
    assert pool.take() == "busy"
    pool.opening()
    pool.closed(None)
    pool.closed("busy")
    pool.closed("idle")
    assert repr(pool) == "<Pool idle=0 busy=0 limit=3>"


def test_those_that_nobody_used_are_outdated() -> None:
    pool = filled("a", "b", "c")
    assert pool.outdated(30.5) == ["a"]
    assert pool.outdated(99) == pool.idle() == ["a", "b", "c"]
