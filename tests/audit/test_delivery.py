"""Checkpoints reach a witness in order, again and again, and hold up nobody."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.audit import delivery as module
from gateway.audit.delivery import DELIVERED, LAG, Deliveries
from gateway.audit.events import EventName
from gateway.audit.witness import Contradicted, Sealed, Undelivered
from gateway.metrics import SEPARATOR, Metrics

from .state import Gateway


class Kept:
    """A witness that fails as it is told to."""

    name = "kept"

    def __init__(self, *, keeps_all: bool) -> None:
        self.keeps_all = keeps_all
        self.numbers: list[int] = []
        self.attempts = 0
        self.error: Exception | None = None
        self.hangs = False

    async def begin_at(self, newest: int) -> int:
        return 1 if self.keeps_all else newest

    async def deliver(self, checkpoint: Sealed) -> None:
        self.attempts += 1
        if self.hangs:
            await asyncio.sleep(60)
        if self.error is not None:
            raise self.error
        self.numbers.append(checkpoint.known.number)


class Rig:
    def __init__(self, gateway: Gateway, *, keeps_all: bool) -> None:
        self.gateway, self.witness, self.metrics = gateway, Kept(keeps_all=keeps_all), Metrics()
        self.recorded: list[tuple[EventName, str, str]] = []
        folder = gateway.state_dir / "checkpoints"
        self.deliveries = Deliveries([self.witness], folder, gateway.clock, self.metrics, self._record)

    async def _record(self, name: EventName, of: str, why: str) -> None:
        self.recorded.append((name, of, why))

    def sign(self, count: int = 1) -> None:
        for _ in range(count):
            self.gateway.journal()
        assert self.gateway.keeper.last is not None
        self.deliveries.signed(self.gateway.keeper.last.number)

    async def until(self, is_so: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not is_so():  # noqa: ASYNC110 - of several things that no event stands for.
                await asyncio.sleep(0.01)

    def count(self, result: str) -> float:
        return self.metrics.totals()[DELIVERED][SEPARATOR.join(("kept", result))][0]

    @property
    def lag(self) -> float:
        self.deliveries.measure()
        return self.metrics.totals()[LAG]["kept"][0]


@pytest.fixture(params=[True, False], ids=["keeps-all", "newest"])
def rig(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rig:
    monkeypatch.setattr(module, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(module, "LONGEST_PAUSE", 0.05)
    return Rig(Gateway(tmp_path), keeps_all=request.param)


async def test_each_is_delivered_once_and_in_order(rig: Rig) -> None:
    rig.deliveries.start()
    for number in range(1, 6):
        rig.sign()
        rig.deliveries.signed(number)
        await rig.until(lambda number=number: rig.witness.numbers[-1:] == [number])  # type: ignore[misc]
    assert rig.witness.numbers == [1, 2, 3, 4, 5]
    assert (rig.count("delivered"), rig.count("failed"), rig.lag) == (5, 0, 0)
    assert rig.recorded == []
    rig.deliveries.stop()


@pytest.mark.requirement("ASVS 16.4.3")
async def test_after_an_outage_all_or_the_newest_are_delivered(rig: Rig) -> None:
    rig.witness.error = Undelivered("is away")
    rig.deliveries.start()
    rig.sign(3)
    rig.gateway.clock.advance(7)
    await rig.until(lambda: rig.count("failed") >= 3)
    assert rig.lag == 7
    rig.sign(2)
    rig.witness.error = None
    await rig.until(lambda: rig.witness.numbers[-1:] == [5])
    assert rig.witness.numbers == ([1, 2, 3, 4, 5] if rig.witness.keeps_all else [5])
    assert rig.lag == 0
    assert rig.recorded == [
        (EventName.WITNESS_FAILED, "kept", "is away"),
        (EventName.WITNESS_RESTORED, "kept", ""),
    ]
    rig.deliveries.stop()


async def test_a_contradiction_is_recorded_as_such(rig: Rig) -> None:
    rig.witness.error = Contradicted("has another")
    rig.deliveries.start()
    rig.sign()
    await rig.until(lambda: rig.count("contradicted") >= 3)
    assert rig.recorded == [(EventName.WITNESS_CONTRADICTED, "kept", "has another")]
    assert rig.count("failed") == 0
    rig.deliveries.stop()


@pytest.mark.requirement("ASVS 16.5.2")
async def test_a_witness_that_hangs_is_given_up_and_tried_again(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ATTEMPT_SECONDS", 0.05)
    rig.witness.hangs = True
    rig.deliveries.start()
    rig.sign()
    await rig.until(lambda: rig.witness.attempts >= 3)
    assert "does not answer within 0.05 s" in rig.recorded[0][2]
    rig.witness.hangs = False
    await rig.until(lambda: rig.witness.numbers == [1])
    rig.deliveries.stop()


async def test_pauses_grow(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_PAUSE", 1.0)
    monkeypatch.setattr(module, "LONGEST_PAUSE", 5.0)
    pauses: list[float] = []

    async def rest(_: object, seconds: float) -> None:
        pauses.append(seconds)
        await asyncio.sleep(0)

    monkeypatch.setattr(module.Delivery, "_rest", rest)
    rig.witness.error = Undelivered("is away")
    rig.deliveries.start()
    rig.sign()
    await rig.until(lambda: len(pauses) >= 5)
    assert pauses[:5] == [1.0, 2.0, 4.0, 5.0, 5.0]
    rig.deliveries.stop()


async def test_a_checkpoint_that_is_gone_here_is_waited_for(rig: Rig) -> None:
    rig.sign()
    path = rig.gateway.state_dir / "checkpoints" / "00000001.json"
    content = path.read_bytes()
    path.unlink()
    rig.deliveries.start()
    await rig.until(lambda: rig.count("failed") >= 1)
    path.write_bytes(content)
    await rig.until(lambda: rig.witness.numbers == [1])
    rig.deliveries.stop()


async def test_at_the_end_the_last_ones_are_tried_at_once(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_PAUSE", 600.0)
    monkeypatch.setattr(module, "LONGEST_PAUSE", 600.0)
    rig.witness.error = Undelivered("is away")
    rig.deliveries.start()
    rig.sign()
    await rig.until(lambda: rig.count("failed") == 1)
    rig.witness.error = None
    await rig.deliveries.finish(10.0)
    assert rig.witness.numbers == [1]


async def test_the_end_does_not_wait_for_ever(rig: Rig) -> None:
    rig.witness.hangs = True
    rig.deliveries.start()
    rig.sign()
    rig.gateway.clock.advance(7)
    await rig.deliveries.finish(0.05)
    assert rig.lag == 0
    await Deliveries([], Path("/"), rig.gateway.clock, rig.metrics, rig._record).finish(0.05)
