"""The contract suite's store: real files. A second backend runs the same tests by being a parameter of `url`."""

import hashlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from gateway.foundation.keyring import Key, KeySet
from gateway.foundation.principal import Grant
from gateway.store import people, sessions, tenants, tokens
from gateway.store.engine import Store
from gateway.store.migrate import migrate
from gateway.store.people import Person
from gateway.store.reader import Reader
from gateway.store.seals import Seals
from gateway.store.sessions import HostToken, Session
from gateway.store.tokens import Account, ServiceToken

Result = TypeVar("Result")

NOW = 1_800_000_000.0


def hashed(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


class World:
    """Puts people, sessions and tokens into a store, with what a test does not care about filled in."""

    now = NOW
    hashed = staticmethod(hashed)

    def __init__(self, store: Store) -> None:
        self.store = store

    def tenant(self, name: str = "acme") -> str:
        self.store.run(lambda c: tenants.add(c, name, NOW))
        return name

    def person(self, name: str = "ada", *grants: str, home: str = "-") -> str:
        held = frozenset(Grant.parse(text) for text in grants)
        person = Person(f"usr_{name}", name, name.title(), home, NOW, grants=held)
        return self.store.run(lambda c: people.add(c, person)).id

    def session(self, person: str, session: str = "ses_1", *hosts: str, until: float = NOW + 43_200) -> str:
        row = Session(session, person, NOW, until, NOW, ("pwd", "otp"), "Firefox, 192.0.2.7")
        self.store.run(lambda c: sessions.create(c, row))
        for host in hosts:
            self.store.run(lambda c, h=host: sessions.put_host_token(c, self.host_token(session, h), NOW))
        return session

    def host_token(self, session: str, host: str, text: str = "") -> HostToken:
        return HostToken(hashed(text or f"{session}/{host}"), session, host)

    def token(self, id_: str = "tok_1", *grants: str, account: str = "ci", expires: float | None = None) -> str:
        def work(connection) -> str:
            if tokens.account(connection, account) is None:
                tokens.add_account(connection, Account(f"svc_{account}", account, NOW))
            held = frozenset(Grant.parse(text) for text in grants)
            row = ServiceToken(id_, f"svc_{account}", account, hashed(id_), None, NOW, expires, grants=held)
            tokens.create(connection, row)
            return id_

        return self.store.run(work)


@pytest.fixture
def url() -> str:
    return "sqlite"


@pytest.fixture
def seals() -> Seals:
    return Seals(KeySet((Key("seal", "k1", 0.0, bytes(range(32))),)))


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def open_store(url: str, state_dir: Path, seals: Seals) -> Iterator[Callable[[], Store]]:
    """As another process would: another `Store` on the same database."""
    opened: list[Store] = []

    def open_one() -> Store:
        opened.append(Store.open(url, state_dir, seals))
        return opened[-1]

    yield open_one
    for store in opened:
        store.close()


@pytest.fixture
def store(open_store: Callable[[], Store]) -> Store:
    store = open_store()
    migrate(store)
    return store


@pytest.fixture
def world(store: Store) -> World:
    return World(store)


@pytest.fixture
def reader(store: Store, url: str, state_dir: Path, seals: Seals) -> Iterator[Reader]:
    reader = Reader.open(url, state_dir, seals)
    yield reader
    reader.close()


@pytest.fixture
def race(store: Store, open_store: Callable[[], Store]) -> Callable[[Callable[..., Result]], list[Result]]:
    """Run the same work at the same moment in two stores; both results."""
    stores = (store, open_store())

    def run(work: Callable[..., Result]) -> list[Result]:
        barrier = threading.Barrier(len(stores))
        results: list[Result] = []

        def one(contender: Store) -> None:
            barrier.wait()
            results.append(contender.run(work))

        threads = [threading.Thread(target=one, args=(contender,)) for contender in stores]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(results) == len(stores)
        return results

    return run
