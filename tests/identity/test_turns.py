import asyncio
import threading
from contextlib import ExitStack

import pytest

from gateway.foundation.errors import Overloaded, Unavailable
from gateway.identity.turns import Bounds, Turns

SOON = 10.0


class Work:
    """Pieces of work that each say when they begin, and wait for the test."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.most = self._running = 0
        self._lock, self._gate = threading.Lock(), threading.Semaphore(0)
        self._begins = threading.Condition(self._lock)

    def __call__(self, name: str):
        def work() -> str:
            with self._begins:
                self.begun.append(name)
                self._running += 1
                self.most = max(self.most, self._running)
                self._begins.notify_all()
            assert self._gate.acquire(timeout=SOON)
            with self._lock:
                self._running -= 1
            return name

        return work

    async def wait_for(self, count: int) -> None:
        def wait() -> bool:
            with self._begins:
                return self._begins.wait_for(lambda: len(self.begun) >= count, SOON)

        assert await asyncio.to_thread(wait)

    def finish(self, count: int = 1) -> None:
        for _ in range(count):
            self._gate.release()


@pytest.fixture
def work():
    work = Work()
    yield work
    work.finish(1000)


@pytest.fixture
def made():
    """Makes turns, and closes them."""
    with ExitStack() as stack:

        def make(**bounds: float) -> Turns:
            turns = Turns(Bounds(**bounds), "test")
            stack.callback(turns.close)
            return turns

        yield make


def asked(turns: Turns, work, *, is_stranger: bool) -> asyncio.Task:
    return asyncio.create_task(turns.take(work, is_stranger=is_stranger))


async def test_what_comes_back_is_the_work_s(made) -> None:
    turns = made()
    assert await turns.take(lambda: 7, is_stranger=True) == 7
    with pytest.raises(ZeroDivisionError):
        await turns.take(lambda: 1 // 0, is_stranger=False)
    assert await turns.take(lambda: 8, is_stranger=False) == 8


@pytest.mark.requirement("ASVS 15.1.3")
async def test_only_so_many_run_at_once(made, work) -> None:
    turns = made(running=2)
    tasks = [asked(turns, work(str(n)), is_stranger=n % 2 == 0) for n in range(12)]
    await work.wait_for(2)
    work.finish(12)
    assert await asyncio.gather(*tasks) == [str(n) for n in range(12)]
    assert work.most == 2


@pytest.mark.requirement("ASVS 15.4.4")
async def test_who_is_known_waits_for_one_piece_of_strangers_work_at_most(made, work) -> None:
    turns = made(running=1)
    strangers = [asked(turns, work(f"stranger {n}"), is_stranger=True) for n in range(20)]
    await work.wait_for(1)
    known = [asked(turns, work(f"known {n}"), is_stranger=False) for n in range(2)]
    await asyncio.sleep(0)
    work.finish(len(strangers) + len(known))
    await asyncio.gather(*strangers, *known)
    assert work.begun[:4] == ["stranger 0", "known 0", "known 1", "stranger 1"]
    assert work.begun[4:] == [f"stranger {n}" for n in range(2, 20)]


async def test_what_nobody_waits_for_any_more_is_not_begun(made, work) -> None:
    turns = made(running=1, deadline_seconds=0.05)
    first = asked(turns, work("first"), is_stranger=True)
    await work.wait_for(1)
    second = asked(turns, work("second"), is_stranger=True)
    for task in (first, second):
        with pytest.raises(Unavailable, match="in time"):
            await task
    third = asked(turns, lambda: "third", is_stranger=True)
    work.finish()
    assert await third == "third"
    assert work.begun == ["first"]


@pytest.mark.requirement("ASVS 15.1.3")
def test_strangers_have_so_many_places_and_those_who_are_known_their_own(made) -> None:
    turns = made(known=3, strangers=4, one_client=4)
    with ExitStack() as places:
        for n in range(4):
            places.enter_context(turns.stranger_place(f"192.0.2.{n}"))
        with pytest.raises(Overloaded), turns.stranger_place("192.0.2.9"):
            pass
        for n in range(3):
            places.enter_context(turns.known_place(f"usr_{n}", f"browser {n}"))
        with pytest.raises(Overloaded), turns.known_place("usr_9", "browser 9"):
            pass
        assert "places=7" in repr(turns)
    # All are given back, whatever happened in them.
    with pytest.raises(KeyError), turns.stranger_place("192.0.2.1"):
        raise KeyError
    assert "places=0" in repr(turns)
    assert not turns._places


def test_one_client_has_not_all_of_the_strangers_places(made) -> None:
    turns = made(strangers=4, one_client=2)
    with turns.stranger_place("192.0.2.1"), turns.stranger_place("192.0.2.1"):
        with pytest.raises(Overloaded), turns.stranger_place("192.0.2.1"):
            pass
        with turns.stranger_place("192.0.2.2"), turns.stranger_place("2001:db8::/64"):
            pass


def test_one_account_has_not_all_of_the_known_ones_places_and_one_browser_not_all_of_its(made) -> None:
    turns = made(known=8, one_account=3, one_browser=2)
    with turns.known_place("usr_1", "a"), turns.known_place("usr_1", "a"):
        with pytest.raises(Overloaded), turns.known_place("usr_1", "a"):
            pass
        with turns.known_place("usr_1", "b"):
            with pytest.raises(Overloaded), turns.known_place("usr_1", "c"):
                pass
            with turns.known_place("usr_2", "d"):
                pass


def test_the_bounds_leave_places_for_others() -> None:
    bounds = Bounds()
    assert bounds.one_client <= bounds.strangers // 2
    assert bounds.one_browser < bounds.one_account <= bounds.known // 2
    assert bounds.running == 2
