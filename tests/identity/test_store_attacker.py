"""Somebody who can write the database, and knows how its readers follow it."""

import sqlite3
from contextlib import closing

import pytest

from gateway.identity import sessions
from gateway.identity.follower import Follower
from gateway.identity.live_copy import load_copy, read_news
from gateway.metrics import Metrics


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
