import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.foundation.clock import FixedClock
from gateway.foundation.entropy import SystemEntropy
from gateway.foundation.keyfiles import Keyring
from gateway.foundation.keyring import KeySet
from gateway.identity import users
from gateway.store.engine import Store
from gateway.store.migrate import migrate
from gateway.store.seals import Seals

from .rig import TestGateway, open_gateway


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, KeySet]:
    ring = Keyring(tmp_path_factory.mktemp("keys"), b"m" * 32, FixedClock(), SystemEntropy())
    return {name: ring.load(name) for name in ("assertion", "session", "hand-over", "seal")}


@pytest.fixture(scope="session")
def fresh_state(tmp_path_factory: pytest.TempPathFactory, keys: dict[str, KeySet]) -> Path:
    """A state folder with a migrated store and two customers, made once and copied for each test."""
    folder = tmp_path_factory.mktemp("proxy") / "state"
    folder.mkdir()
    store = Store.open("sqlite", folder, Seals(keys["seal"]))
    migrate(store)
    users.add_tenants(store, ["acme", "globex"], FixedClock())
    store.close()
    return folder


@pytest.fixture
async def gateway(fresh_state: Path, tmp_path: Path, keys: dict[str, KeySet]) -> AsyncIterator[TestGateway]:
    folder = shutil.copytree(fresh_state, tmp_path / "s")
    async with open_gateway(folder, keys) as opened:
        yield opened
