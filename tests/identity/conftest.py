"""A whole identity on a real store, with a clock that tests move."""

import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import pyotp
import pytest

from gateway.foundation.addresses import parse_address
from gateway.foundation.clock import FixedClock
from gateway.foundation.entropy import SystemEntropy
from gateway.foundation.keyring import Key, KeySet
from gateway.foundation.principal import Grant
from gateway.http1.messages import Header
from gateway.identity import factors, otp, sessions, users
from gateway.identity.cookies import NONCE_COOKIE_PREFIX
from gateway.identity.handover import Challenge, seal_request
from gateway.identity.passwords import Cost, Passwords, hash_password
from gateway.identity.sessions import Minter
from gateway.identity.sign_in import SignIn, SignInKeys, SignInSettings
from gateway.identity.sign_in_steps import Client, HandOver
from gateway.store.engine import Store
from gateway.store.migrate import migrate
from gateway.store.people import Person
from gateway.store.reader import Reader
from gateway.store.seals import Seals

Value = TypeVar("Value")

CHEAP = Cost(memory_kib=8, passes=1, lanes=1)
PASSWORD = "correct horse battery"
LOGIN_HOST = "login.apps.example"
APP_HOST = "orders.apps.example"


def symmetric(purpose: str) -> KeySet:
    return KeySet((Key(purpose, SystemEntropy.bytes(6).hex(), 0.0, SystemEntropy.bytes(32)),))


SEALS = Seals(symmetric("seal"))


def rotated(keys: KeySet) -> KeySet:
    return KeySet((*symmetric(keys.current.purpose).keys, *keys.keys))


class World:
    """People with factors, and browsers that carry what they were given."""

    password, login_host, app_host = PASSWORD, LOGIN_HOST, APP_HOST
    seals = SEALS
    symmetric, rotated = staticmethod(symmetric), staticmethod(rotated)
    entropy = SystemEntropy()

    def __init__(self, store: Store, state_dir: Path) -> None:
        self.store, self.state_dir = store, state_dir
        self.clock = FixedClock()
        self.keys = SignInKeys(symmetric("session"), symmetric("hand-over"), symmetric("factor"))
        self.settings = SignInSettings(LOGIN_HOST, idle_seconds=3600, absolute_seconds=43_200)
        self.passwords = Passwords(self.entropy, CHEAP)
        self.sign_in = self.another_portal()
        self.minter = Minter(self.keys.session, self.clock, self.entropy)
        self.client = Client(parse_address("192.0.2.7"), description="Firefox")
        self.secrets: dict[str, bytes] = {}

    def another_portal(self) -> SignIn:
        return SignIn(self.store, self.keys, self.passwords, self.settings, self.clock, self.entropy)

    def from_(self, address: str, device: str = "", session: str = "") -> Client:
        return Client(parse_address(address), device, "Firefox", session)

    def person(self, name: str = "ada", *grants: str) -> Person:
        person = self.bare_person(name, *grants)
        self.secrets[name] = otp.new_secret(self.entropy)
        new = factors.NewFactors(hash_password(PASSWORD, self.entropy, CHEAP), self.secrets[name])
        factors.set_credentials(self.store, self.keys.factor, person.id, new, self.clock, self.entropy)
        return person

    def bare_person(self, name: str, *grants: str) -> Person:
        """One who has no factors yet."""
        held = frozenset(Grant.parse(text) for text in grants)
        return users.add(self.store, users.NewUser(name, grants=held), self.clock, self.entropy)

    def code(self, name: str = "ada", steps: int = 0) -> str:
        """What the person's app shows, `steps` of 30 seconds from now."""
        totp = pyotp.TOTP(otp.secret_text(self.secrets[name]))
        return totp.generate_otp(otp.current_step(self.clock.now()) + steps)

    def wrong_code(self, name: str = "ada") -> str:
        near = {self.code(name, steps) for steps in (-1, 0, 1)}
        return next(code for code in ("000000", "111111", "222222", "333333") if code not in near)

    def challenge(
        self, target: str = "/t/acme/orders/7", *, host: str = APP_HOST, fresh_code: bool = False
    ) -> Challenge:
        return seal_request(
            self.keys.hand_over, host, target, fresh_code=fresh_code, clock=self.clock, entropy=self.entropy
        )

    def nonce(self, challenge: Challenge) -> dict[str, str]:
        """The cookie that the challenge left in the browser."""
        name, _, value = challenge.set_cookie.partition(";")[0].partition("=")
        assert name.startswith(NONCE_COOKIE_PREFIX)
        return {name: value}

    def held(self, challenge: Challenge, hand_over: HandOver) -> dict[str, str]:
        """All cookies that the browser brings which began, and then was at the login host."""
        pairs = (cookie.partition(";")[0].partition("=") for cookie in hand_over.set_cookies)
        return self.nonce(challenge) | {name: value for name, _, value in pairs}

    def session(self, person: Person, *hosts: str) -> tuple[str, dict[str, str]]:
        """A session as a sign-in would have made it: its id, and its cookie by host."""

        def work(connection):
            until = self.clock.now() + self.settings.absolute_seconds
            session = sessions.begin(connection, self.minter, person.id, until=until, client="Firefox")
            given = {host: sessions.give_host_token(connection, self.minter, session.id, host) for host in hosts}
            return session.id, given

        return self.store.run(work)

    def host_token(self, session: str, host: str = APP_HOST) -> str:
        return self.store.run(lambda c: sessions.give_host_token(c, self.minter, session, host))

    def side_by_side(self, *works: Callable[[], Value]) -> list[Value]:
        """All at the same moment, each on a thread of its own."""
        with ThreadPoolExecutor(len(works)) as threads:
            return [future.result() for future in [threads.submit(work) for work in works]]


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture(scope="session")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store without rows, made once: each test gets a copy of its files."""
    directory = tmp_path_factory.mktemp("empty")
    store = Store.open("sqlite", directory, SEALS)
    migrate(store)
    store.close()
    return directory


@pytest.fixture
def store(empty: Path, state_dir: Path) -> Iterator[Store]:
    shutil.copytree(empty, state_dir)
    store = Store.open("sqlite", state_dir, SEALS)
    yield store
    store.close()


@pytest.fixture
def world(store: Store, state_dir: Path) -> Iterator[World]:
    world = World(store, state_dir)
    yield world
    world.passwords.close()


@pytest.fixture
def reader(store: Store, state_dir: Path) -> Iterator[Reader]:
    reader = Reader.open("sqlite", state_dir, SEALS)
    yield reader
    reader.close()


@pytest.fixture
def header() -> Callable[[str, bytes], Header]:
    return lambda name, value: Header(name.lower().encode(), value, name.encode() + b": " + value)
