"""Somebody who can write the database, and knows how its readers follow it."""

import re
import sqlite3
from contextlib import closing

import pyotp
import pytest

from gateway.foundation.errors import StoreTampered
from gateway.identity import factors, otp, sessions, users
from gateway.identity.enrolment import SCAN_SECONDS, Enrolment, EnrolmentKeys, open_link
from gateway.identity.follower import Follower
from gateway.identity.handover import CODE_SECONDS, bind, nonce_hash
from gateway.identity.live_copy import load_copy, read_news
from gateway.identity.passwords import hash_password
from gateway.identity.sign_in_steps import PENDING_SECONDS, HandOver, Refused, Why
from gateway.metrics import Metrics
from gateway.store import enrolments

from .conftest import APP_HOST, CHEAP, LOGIN_HOST, PASSWORD


class Attacker:
    """Reads and writes the file with a connection of their own, and has no key."""

    def __init__(self, world) -> None:
        self._path = world.store.backend.path

    def run(self, *statements: str) -> None:
        with closing(sqlite3.connect(self._path)) as connection:
            for statement in statements:
                connection.execute(statement)
            connection.commit()

    def copy(self, table: str, where: str = "1") -> list[tuple]:
        with closing(sqlite3.connect(self._path)) as connection:
            return connection.execute(f"SELECT * FROM {table} WHERE {where}").fetchall()  # noqa: S608 - the attacker's.

    def put(self, table: str, rows: list[tuple]) -> None:
        with closing(sqlite3.connect(self._path)) as connection:
            for row in rows:
                marks = ", ".join("?" * len(row))
                connection.execute(f"INSERT OR REPLACE INTO {table} VALUES ({marks})", row)  # noqa: S608
            connection.commit()

    def behind(self, index: str, constraint: str, *statements: str, twice: bool = False) -> None:
        """Write rows that the index of a constraint doesn't know, or knows `twice`, as no constraint would let us."""
        schema = "UPDATE sqlite_schema SET"
        with closing(sqlite3.connect(self._path, isolation_level=None)) as connection:
            _, _, table, root, _ = connection.execute("SELECT * FROM sqlite_schema WHERE name = ?", (index,)).fetchone()
            (sql,) = connection.execute("SELECT sql FROM sqlite_schema WHERE name = ?", (table,)).fetchone()
            lax = re.sub(rf",\s*CONSTRAINT {constraint} [^(]*\([^)]*\)", "", sql)
            connection.execute("PRAGMA writable_schema = ON")
            connection.execute(f"{schema} sql = ? WHERE name = ?", (lax, table))
            connection.execute("DELETE FROM sqlite_schema WHERE name = ?", (index,))
            self._next_schema(connection)
        with closing(sqlite3.connect(self._path, isolation_level=None)) as connection:
            if twice:
                (column,) = re.findall(rf"CONSTRAINT {constraint} [^(]*\(([^)]*)\)", sql)
                connection.execute(f"CREATE INDEX planted ON {table} ({column})")
                (root,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'planted'").fetchone()
            for statement in statements:
                connection.execute(statement)
            connection.execute("PRAGMA writable_schema = ON")
            connection.execute("DELETE FROM sqlite_schema WHERE name = 'planted'")
            connection.execute(f"{schema} sql = ? WHERE name = ?", (sql, table))
            row = ("index", index, table, root, None)
            connection.execute("INSERT INTO sqlite_schema VALUES (?, ?, ?, ?, ?)", row)
            self._next_schema(connection)

    def decoy(self, authenticator: str, person: str) -> None:
        """Have the index of ids lead to a copy of the row, which the index of people doesn't know."""
        known = ("sqlite_autoindex_authenticators_1", "ix_authenticators_person")
        with closing(sqlite3.connect(self._path, isolation_level=None)) as connection:
            rows = [
                connection.execute("SELECT * FROM sqlite_schema WHERE name = ?", (name,)).fetchone() for name in known
            ]
            (sql,) = connection.execute("SELECT sql FROM sqlite_schema WHERE name = 'authenticators'").fetchone()
            lax = re.sub(r",\s*CONSTRAINT pk_authenticators [^(]*\([^)]*\)", "", sql)
            connection.execute("PRAGMA writable_schema = ON")
            connection.execute("UPDATE sqlite_schema SET sql = ? WHERE name = 'authenticators'", (lax,))
            connection.execute("DELETE FROM sqlite_schema WHERE name = ?", (known[0],))
            self._next_schema(connection)
        with closing(sqlite3.connect(self._path, isolation_level=None)) as connection:
            connection.execute("UPDATE authenticators SET rowid = rowid + 100")
            connection.execute("PRAGMA writable_schema = ON")
            connection.execute("DELETE FROM sqlite_schema WHERE name = ?", (known[1],))
            self._next_schema(connection)
        with closing(sqlite3.connect(self._path, isolation_level=None)) as connection:
            connection.execute(
                "INSERT INTO authenticators (rowid, id, person, kind, sealed, last_step, failures, created_at) "
                "SELECT rowid - 100, id, ?, kind, sealed, 0, failures, created_at FROM authenticators WHERE id = ?",
                (person, authenticator),
            )
            connection.execute("PRAGMA writable_schema = ON")
            connection.execute("UPDATE sqlite_schema SET sql = ? WHERE name = 'authenticators'", (sql,))
            for row in rows:
                connection.execute("INSERT INTO sqlite_schema VALUES (?, ?, ?, ?, ?)", row)
            self._next_schema(connection)

    @staticmethod
    def _next_schema(connection: sqlite3.Connection) -> None:
        (version,) = connection.execute("PRAGMA schema_version").fetchone()
        connection.execute(f"PRAGMA schema_version = {version + 1}")

    def notice(self, kind: str, key: str) -> None:
        self.run(f"INSERT INTO changes (kind, key, at) VALUES ('{kind}', '{key}', 1.0)")  # noqa: S608


@pytest.fixture
def attacker(world) -> Attacker:
    return Attacker(world)


@pytest.fixture
async def follower(world, reader):
    follower = Follower(reader, world.clock, Metrics(), lambda _: None)
    yield follower
    await follower.stop()


@pytest.mark.parametrize("again", ["notice", "truncate"])
async def test_what_counts_as_ended_stays_ended(world, attacker, follower, again) -> None:
    """A session and its seal are put back after it was revoked, and the change is announced, again and again."""
    session, _ = world.session(world.bare_person("ada"), "a.example")
    await follower.confirm()
    kept = {
        table: attacker.copy(table, where)
        for table, where in {
            "sessions": f"id = '{session}'",
            "seals": f"key = '{session}'",
            "activity": f"session = '{session}'",
            "host_tokens": f"session = '{session}'",
        }.items()
    }
    sessions.end(world.store, session, "revoked", world.clock)
    await follower.confirm()
    assert session not in follower.copy.sessions
    for table, rows in kept.items():
        attacker.put(table, rows)
    for _ in range(3):
        attacker.notice("session", session)
        await follower.confirm()
        assert session not in follower.copy.sessions
        if again == "truncate":
            attacker.run("UPDATE meta SET value = value + 1000000 WHERE name = 'changes_floor'")
            await follower.confirm()
            assert session not in follower.copy.sessions


class Restless:
    """The reader of a store into which somebody writes whenever it is read."""

    def __init__(self, reader, write) -> None:
        self._reader, self._write = reader, write

    def __getattr__(self, name: str):
        def call(*args, **kwargs):
            self._write()
            return getattr(self._reader, name)(*args, **kwargs)

        return call


def test_a_revocation_is_seen_though_its_notice_is_deleted_and_the_store_never_rests(world, attacker, reader) -> None:
    session, _ = world.session(world.bare_person("ada"), "a.example")
    copy = load_copy(reader, world.clock.now())
    sessions.end(world.store, session, "revoked", world.clock)
    attacker.run(f"DELETE FROM changes WHERE position > {copy.position}")  # noqa: S608
    restless = Restless(reader, lambda: attacker.notice("person", "nobody"))
    news = read_news(restless, copy.version, copy.position)
    assert news is None or not copy.fits(news)


@pytest.fixture
def enrolment(world):
    keys = EnrolmentKeys(world.keys.session, world.keys.factor)
    return Enrolment(world.store, keys, world.passwords, "example", world.clock, world.entropy)


async def test_a_link_that_only_one_index_knows_is_nobody_s(world, attacker, enrolment) -> None:
    """Eve's own old link is made one of Ada's, in a row that a look-up by person doesn't find."""
    ada, eve = world.person("ada", "admin@*"), world.bare_person("eve")
    link = open_link(world.store, world.keys.session, "eve", world.clock, world.entropy)
    assert (await enrolment.find(link.token)).person == eve.id
    (row,) = attacker.copy("enrolments")
    world.store.run(lambda c: enrolments.drop_of_person(c, eve.id))
    attacker.behind(
        "sqlite_autoindex_enrolments_2",
        "uq_enrolments_person",
        f"INSERT INTO enrolments VALUES (x'{row[0].hex()}', '{ada.id}', 9e9)",  # noqa: S608 - the attacker's.
    )
    assert await enrolment.find(link.token) is None
    assert await enrolment.choose_password(link.token, "eve's own long password") is None


async def test_an_old_password_beside_the_new_one_is_refused(world, attacker) -> None:
    """The row from before a reset is put in front of the present one, under a key that only one of them could have."""
    ada = world.person("ada")
    ((_, old, at),) = attacker.copy("passwords")
    reset(world, ada)
    assert await signs_in(world, "ada", PASSWORD) is Why.WRONG_PASSWORD
    attacker.behind(
        "sqlite_autoindex_passwords_1",
        "pk_passwords",
        f"INSERT INTO passwords (rowid, person, hash, changed_at) VALUES (0, '{ada.id}', '{old}', {at})",  # noqa: S608
        twice=True,
    )
    assert await signs_in(world, "ada", PASSWORD) is Why.NO_FACTOR


def test_a_session_s_row_in_front_of_the_genuine_one_is_nobody_s(world, attacker) -> None:
    ada, eve = world.person("ada"), world.person("eve")
    session, _ = world.session(eve, "a.example")
    attacker.behind(
        "sqlite_autoindex_sessions_1",
        "pk_sessions",
        f"INSERT INTO sessions (rowid, id, person, created_at, until, amr, client) VALUES "  # noqa: S608
        f"(0, '{session}', '{ada.id}', 1.0, 9e9, 'pwd otp', '')",
        twice=True,
    )
    now = world.clock.now()
    found = world.store.read(lambda c: sessions.find_live(c, session, now, 3600.0))
    assert found is None or found.person == eve.id


COUNTED = {"a right code": lambda world: world.code(), "a wrong code": lambda world: world.wrong_code()}


@pytest.mark.parametrize("owner", ["the person's", "nobody's"])
@pytest.mark.parametrize("code", COUNTED.values(), ids=COUNTED)
def test_a_code_counts_in_the_row_that_it_was_read_from(world, attacker, owner, code) -> None:
    """The index of ids leads to a decoy: codes would be spent there, and wrong ones counted, and be good again."""
    ada = world.person("ada")
    ((authenticator, person, *_),) = attacker.copy("authenticators")
    decoy = person if owner == "the person's" else world.bare_person("eve").id
    attacker.decoy(authenticator, decoy)
    now = world.clock.now()
    with pytest.raises(StoreTampered):
        world.store.run(lambda c: factors.accept_code(c, world.keys.factor, ada.id, code(world), now))


def reset(world, person, secret: bytes = b"s" * 20) -> None:
    new = factors.NewFactors(hash_password("another long password", world.entropy, CHEAP), secret)
    factors.set_credentials(world.store, world.keys.factor, person.id, new, world.clock, world.entropy)


async def signs_in(world, name: str, password: str) -> Why | None:
    """As far as the code; why not."""
    taken = await world.sign_in.password(None, name, password, world.client)
    return taken.why if isinstance(taken, Refused) else None


class Browser:
    """Somebody else's browser, which has seen a code of a hand-over, and cookies of its own."""

    def __init__(self, world) -> None:
        self.world = world
        self.challenge = world.challenge()

    async def redeem(self, over: HandOver, *, has_half: bool = True):
        held = self.world.held(self.challenge, over) if has_half else self.world.nonce(self.challenge)
        return await self.world.sign_in.redeem(over.code, APP_HOST, held)


@pytest.mark.parametrize("what", ["another's nonce", "later"])
async def test_a_spent_hand_over_is_good_for_nobody_else_and_not_later(world, attacker, what) -> None:
    ada = world.person("ada")
    session, _ = world.session(ada, LOGIN_HOST)
    hers, eve_s = Browser(world), Browser(world)
    came_from = await world.sign_in.begin(hers.challenge.request, session)
    (row,) = attacker.copy("hand_overs")
    assert (await hers.redeem(came_from)) is not None
    code_hash, whose, host, target, nonce, expires_at = row
    if what == "later":
        world.clock.advance(CODE_SECONDS)
        attacker.put("hand_overs", [(code_hash, whose, host, target, nonce, expires_at + 3600)])
        assert await hers.redeem(came_from) is None
    else:
        (value,) = world.nonce(eve_s.challenge).values()
        attacker.put("hand_overs", [(code_hash, whose, host, target, bind(nonce_hash(value), ""), expires_at)])
        assert await eve_s.redeem(came_from, has_half=False) is None


async def test_a_password_from_before_a_reset_proves_nothing_after_it(world, attacker) -> None:
    """The pending sign-in that it earned is put back, and lasts as long as its row says."""
    ada = world.person("ada")
    taken = await world.sign_in.password(None, "ada", PASSWORD, world.client)
    rows = attacker.copy("pending")
    secret = world.entropy.bytes(20)
    world.secrets["ada"] = secret
    reset(world, ada, secret)
    assert attacker.copy("pending") == []
    attacker.put("pending", rows)
    assert (await world.sign_in.code(taken.pending, world.code(), world.client)).why is Why.EXPIRED_SIGN_IN


async def test_a_pending_sign_in_does_not_last_longer_than_it_was_given(world, attacker) -> None:
    world.person("ada")
    taken = await world.sign_in.password(None, "ada", PASSWORD, world.client)
    attacker.run("UPDATE pending SET expires_at = 9e9")
    world.clock.advance(PENDING_SECONDS)
    assert (await world.sign_in.code(taken.pending, world.code(), world.client)).why is Why.EXPIRED_SIGN_IN


@pytest.mark.parametrize("what", ["as it was", "with another link", "that she has opened", "after a reset", "later"])
async def test_an_enrolment_that_was_cut_off_is_not_finished(world, attacker, enrolment, what) -> None:
    """Whoever had the link chose a password; the administrator made another link, which Ada has used."""
    ada = world.bare_person("ada")
    link = open_link(world.store, world.keys.session, "ada", world.clock, world.entropy)
    scan = await enrolment.choose_password(link.token, "the intruder's long password")
    rows = attacker.copy("pending")
    if what in ("with another link", "that she has opened"):
        hers = open_link(world.store, world.keys.session, "ada", world.clock, world.entropy)
    if what == "that she has opened":
        await enrolment.choose_password(hers.token, "ada's own long password")
    if what == "after a reset":
        users.reset(world.store, "ada", world.clock)
    if what == "as it was":
        reset(world, ada)
    if what == "later":
        world.clock.advance(SCAN_SECONDS)
        rows = [(*row[:4], 9e9, *row[5:]) for row in rows]
    attacker.put("pending", rows)
    code = pyotp.TOTP(scan.secret).generate_otp(otp.current_step(world.clock.now()))
    assert await enrolment.confirm(scan.pending, code) is None
