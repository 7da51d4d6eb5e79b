"""What no test may leave to the next, and the order of tests that run side by side."""

import logging
from collections.abc import Iterator

import pytest

from gateway.store import thread


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Side by side the long modules come first: nobody waits at the end for the last of them."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: item.get_closest_marker("system") is None)


@pytest.fixture(autouse=True)
def _patient_store(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a second can pass on a machine that does something else. What the deadline is for has tests that give their
    own, and whole gateways have the real one."""
    monkeypatch.setattr(thread, "DEADLINE_SECONDS", 10.0)


@pytest.fixture(autouse=True)
def _log_level() -> Iterator[None]:
    """A process sets it for the rest of its life; the tests of processes are run in ours."""
    root = logging.getLogger()
    level = root.level
    yield
    root.setLevel(level)
