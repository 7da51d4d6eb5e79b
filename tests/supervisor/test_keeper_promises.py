"""The keeper's regular work goes on when something of it fails."""

import asyncio
from types import SimpleNamespace

import pytest

from gateway.foundation.clock import FixedClock
from gateway.foundation.errors import GatewayError
from gateway.metrics import Metrics
from gateway.supervisor.keeper import Keeper


@pytest.mark.parametrize("failure", [GatewayError("no"), OSError(28, "No space left on device")])
@pytest.mark.parametrize("where", ["listing", "create"])
async def test_snapshots_go_on_after_one_that_failed(place, monkeypatch, failure, where):
    attempts, pauses = [], []

    def fail(*_):
        attempts.append(where)
        raise failure

    async def command(*_):
        fail()

    async def pause(seconds):
        pauses.append(seconds)
        if len(pauses) == 3:
            raise asyncio.CancelledError

    monkeypatch.setattr("gateway.supervisor.keeper.asyncio.sleep", pause)
    monkeypatch.setattr("gateway.supervisor.keeper.snapshot.listing", fail if where == "listing" else lambda _: [])
    settings = place.configuration().settings
    keeper = SimpleNamespace(settings=settings, metrics=Metrics(), clock=FixedClock(), command=command)
    with pytest.raises(asyncio.CancelledError):
        await Keeper._snapshot(keeper)
    assert attempts == [where] * 3
