"""A thread that gets nowhere is told from one that works for long, with real threads."""

import asyncio
import threading
import time

import pytest

from gateway.foundation.clock import FixedClock
from gateway.supervisor.progress import MOST_BETWEEN, WatchedThread


@pytest.fixture
def clock():
    return FixedClock()


@pytest.fixture
def thread(clock):
    thread = WatchedThread("tests", clock)
    yield thread
    thread.shutdown()


def look_on(thread, clock, times=5):
    """Once each second."""
    for _ in range(times):
        clock.advance(1.0)
        thread.look()
    return thread.look()


async def hang(thread):
    """A piece of work that waits without a limit, begun; and how to let it end."""
    release, is_waiting = threading.Event(), threading.Event()

    def wait():
        is_waiting.set()
        release.wait()

    running = asyncio.create_task(thread.run(wait))
    await asyncio.to_thread(is_waiting.wait)
    # It has said so, and is not yet where it waits.
    used = None
    while (now := thread._processor_seconds()) != used:
        used = now
        await asyncio.sleep(0.05)
    thread.look()
    return running, release


async def test_what_work_returns_and_raises(thread):
    assert await thread.run(lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        await thread.run(lambda: 1 / 0)


async def test_without_work_it_is_not_still(thread, clock):
    assert look_on(thread, clock) == 0.0
    await thread.run(lambda: None)
    assert look_on(thread, clock) == 0.0


async def test_a_call_that_does_not_return_is_counted_from_its_last_step(thread, clock):
    running, release = await hang(thread)
    assert look_on(thread, clock) == 5.0
    assert look_on(thread, clock) == 10.0
    release.set()
    await running
    assert look_on(thread, clock) == 0.0


async def test_what_waits_behind_it_changes_nothing(thread, clock):
    running, release = await hang(thread)
    behind = asyncio.create_task(thread.run(lambda: 7))
    await asyncio.sleep(0)
    assert look_on(thread, clock) == 5.0
    release.set()
    assert await behind == 7
    await running


@pytest.mark.parametrize("step", [lambda: sum(range(1000)), lambda: time.sleep(0.001)], ids=["works", "asks again"])
async def test_long_work_that_goes_on_is_never_still(thread, clock, step):
    over, steps = threading.Event(), []

    def work():
        while not over.is_set():
            step()
            steps.append(1)

    running = asyncio.create_task(thread.run(work))
    for _ in range(10):
        before = len(steps)
        while len(steps) < before + 2:  # noqa: ASYNC110 - the other side is a thread.
            await asyncio.sleep(0.001)
        clock.advance(1.0)
        assert thread.look() == 0.0
    over.set()
    await running


async def test_a_process_that_was_stopped_itself_has_not_been_still_for_so_long(thread, clock):
    running, release = await hang(thread)
    clock.advance(3600)
    assert thread.look() == MOST_BETWEEN
    release.set()
    await running
