import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.store.engine import Store
from gateway.store.migrate import migrate
from gateway.store.seals import Seals

from .house import House, key_ring, open_house


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state folder with a migrated store, made once and copied for each test."""
    folder = tmp_path_factory.mktemp("portal") / "state"
    folder.mkdir()
    store = Store.open("sqlite", folder, Seals(key_ring(folder).load("seal")))
    migrate(store)
    store.close()
    return folder


@pytest.fixture
async def house(empty_store: Path, tmp_path: Path) -> AsyncIterator[House]:
    folder = shutil.copytree(empty_store, tmp_path / "state")
    async with open_house(folder) as opened:
        yield opened
