import logging

import pytest

from gateway.foundation.errors import StoreUnavailable
from gateway.metrics import Metrics
from gateway.supervisor.reserve import Reserve


class Room:
    """In the place of the store: has room, or none."""

    fault: Exception | None = None

    def reserve(self) -> None:
        if self.fault is not None:
            raise self.fault


@pytest.mark.parametrize("fault", [OSError(28, "No space left on device"), StoreUnavailable("away")])
def test_a_missing_reserve_is_told_once_and_made_again(tmp_path, caplog, fault):
    room, metrics = Room(), Metrics()
    reserve = Reserve(room, tmp_path, metrics)

    def ready() -> float:
        reserve.keep()
        return metrics.totals()["gateway_reserve_ready"][""][0]

    assert ready() == 1.0
    assert metrics.totals()["gateway_disk_free_bytes"][""][0] > 0
    room.fault = fault
    with caplog.at_level(logging.ERROR):
        assert [ready(), ready(), ready()] == [0.0, 0.0, 0.0]
    assert [record.message for record in caplog.records] == [f"nothing is reserved for a full disk: {fault}"]
    assert repr(reserve) == "<Reserve missing>"
    room.fault = None
    assert ready() == 1.0


def test_a_state_dir_that_is_away_for_a_while_ends_no_care_for_it(tmp_path):
    state_dir, metrics = tmp_path / "state", Metrics()
    reserve = Reserve(Room(), state_dir, metrics)
    reserve.keep()
    assert metrics.totals()["gateway_reserve_ready"][""] == [0.0]
    state_dir.mkdir()
    reserve.keep()
    assert metrics.totals()["gateway_reserve_ready"][""] == [1.0]
