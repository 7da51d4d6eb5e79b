"""What no test may leave to the next."""

import logging
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _log_level() -> Iterator[None]:
    """A process sets it for the rest of its life; the tests of processes are run in ours."""
    root = logging.getLogger()
    level = root.level
    yield
    root.setLevel(level)
