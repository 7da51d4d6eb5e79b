import threading

import pytest

from gateway.foundation.errors import StoreUnavailable
from gateway.store.thread import JobThread


@pytest.fixture
def jobs():
    jobs = JobThread("jobs")
    yield jobs
    jobs.close()


async def test_what_a_job_raises_is_raised_where_it_is_waited_for(jobs):
    def fails(_) -> None:
        raise KeyError("mine")

    with pytest.raises(KeyError):
        await jobs.ask(fails, 1)
    assert await jobs.ask(lambda _: 7, 1) == 7


async def test_a_job_that_nobody_waits_for_is_not_begun(jobs):
    release, begun = threading.Event(), []
    with pytest.raises(StoreUnavailable):
        await jobs.ask(lambda _: release.wait(5), 0.05)
    with pytest.raises(StoreUnavailable):
        await jobs.ask(lambda _: begun.append("second"), 0.05)
    release.set()
    await jobs.ask(lambda _: begun.append("third"), 5)
    assert begun == ["third"]


async def test_a_job_can_see_that_nobody_waits(jobs):
    release, seen = threading.Event(), []

    def job(is_abandoned) -> None:
        seen.append(is_abandoned())
        release.wait(5)
        seen.append(is_abandoned())

    with pytest.raises(StoreUnavailable):
        await jobs.ask(job, 0.05)
    release.set()
    await jobs.ask(lambda _: None, 5)
    assert seen == [False, True]


async def test_it_finishes_what_waits_and_takes_nothing_more(jobs):
    assert await jobs.ask(lambda _: 1, 1) == 1
    jobs.close()
    with pytest.raises(StoreUnavailable, match="closed"):
        await jobs.ask(lambda _: 1, 1)
    assert "closed=True" in repr(jobs)


def test_no_thread_before_it_is_asked_for():
    before = threading.active_count()
    JobThread("jobs").close()
    assert threading.active_count() == before
