"""Factors that are put back as they once were, with the seal that they had: refused at once, and not by a review."""

import sqlite3
from contextlib import closing

import pytest

from gateway.foundation.errors import StoreTampered
from gateway.store import enrolments, factors, people, seals
from gateway.store.enrolments import Enrolment
from gateway.store.factors import Authenticator, Password

ADA, BOB, EVE = "usr_0aada", "usr_0abob", "usr_f0eve"
"""The first two have one share of the tally."""
TABLES = ("people", "person_grants", "passwords", "authenticators", "enrolments", "seals")


@pytest.fixture
def inhabited(store, world):
    for person in (ADA, BOB, EVE):
        world.person(person.removeprefix("usr_"))
        row = Authenticator(f"aut_{person}", person, "totp", b"sealed", 100, 0, world.now)
        store.run(lambda c, p=person: factors.set_password(c, p, Password("hash", world.now)))
        store.run(lambda c, r=row: factors.add_authenticator(c, r))
    return world


class Thief:
    """Keeps every row of the tables for later."""

    def __init__(self, path) -> None:
        self.path = path
        with closing(sqlite3.connect(path)) as raw:
            self.rows = {table: raw.execute(f"SELECT * FROM {table}").fetchall() for table in (*TABLES, "tally")}  # noqa: S608

    def put_back(self, *tables: str) -> None:
        with closing(sqlite3.connect(self.path)) as raw:
            raw.execute("PRAGMA foreign_keys = OFF")
            for table in tables:
                raw.execute(f"DELETE FROM {table}")  # noqa: S608
                for row in self.rows[table]:
                    raw.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", row)  # noqa: S608
            raw.commit()


@pytest.fixture
def thief(store, inhabited):
    return Thief(store.backend.path)


CHANGES = {
    "another password": lambda c, w: factors.set_password(c, ADA, Password("another", w.now)),
    "a code that was used": lambda c, w: factors.advance_step(c, f"aut_{ADA}", 101),
    "a code that was wrong": lambda c, w: factors.fail(c, f"aut_{ADA}", 100, w.now),
    "an authenticator that was disabled": lambda c, w: factors.fail(c, f"aut_{ADA}", 1, w.now),
    "factors that were forgotten": lambda c, w: factors.forget(c, ADA),
    "a link that came": lambda c, w: enrolments.add(c, Enrolment(w.hashed("link"), ADA, w.now + 9)),
    "a person who was removed": lambda c, w: people.remove(c, ADA, w.now),
}


@pytest.mark.parametrize("what", CHANGES)
def test_all_that_a_person_had_is_put_back_and_refused_at_once(store, inhabited, thief, what):
    assert store.read(lambda c: factors.are_genuine(c, ADA))
    store.run(lambda c: CHANGES[what](c, inhabited))
    assert store.read(lambda c: factors.are_genuine(c, ADA))
    thief.put_back(*TABLES)
    with pytest.raises(StoreTampered):
        store.read(lambda c: factors.are_genuine(c, ADA))
    with pytest.raises(StoreTampered):
        store.run(lambda c: factors.are_genuine(c, ADA))


def test_a_link_that_was_used_is_no_link_any_more(store, inhabited):
    store.run(lambda c: enrolments.add(c, Enrolment(inhabited.hashed("link"), ADA, inhabited.now + 9)))
    thief = Thief(store.backend.path)
    assert store.run(lambda c: enrolments.spend(c, inhabited.hashed("link"), inhabited.now)) is not None
    thief.put_back(*TABLES)
    with pytest.raises(StoreTampered):
        store.read(lambda c: enrolments.find(c, inhabited.hashed("link"), inhabited.now))


def test_whoever_shares_the_part_of_the_tally_waits_and_the_others_go_on(store, inhabited, thief):
    store.run(lambda c: factors.set_password(c, ADA, Password("another", inhabited.now)))
    thief.put_back(*TABLES)
    with pytest.raises(StoreTampered):
        store.read(lambda c: factors.are_genuine(c, BOB))
    assert store.read(lambda c: factors.are_genuine(c, EVE))


def test_with_the_tally_as_well_it_is_older_than_what_we_have_seen(store, inhabited, thief):
    store.run(lambda c: factors.set_password(c, ADA, Password("another", inhabited.now)))
    assert store.read(lambda c: factors.are_genuine(c, ADA))
    thief.put_back(*TABLES, "tally")
    with pytest.raises(StoreTampered, match="older than it was"):
        store.read(lambda c: factors.are_genuine(c, EVE))


def test_what_was_deleted_with_its_seal_is_missed(store, inhabited):
    with closing(sqlite3.connect(store.backend.path)) as raw:
        raw.execute("DELETE FROM passwords WHERE person = ?", (BOB,))
        raw.execute("DELETE FROM authenticators WHERE person = ?", (BOB,))
        raw.execute("DELETE FROM seals WHERE kind = 'factors' AND key = ?", (BOB,))
        raw.commit()
    for person in (ADA, BOB):
        with pytest.raises(StoreTampered):
            store.read(lambda c, p=person: factors.are_genuine(c, p))


def test_a_transaction_sees_its_own_changes_as_genuine(store, inhabited):
    def work(connection) -> bool:
        factors.set_password(connection, ADA, Password("another", inhabited.now))
        return factors.are_genuine(connection, ADA)

    assert store.run(work)
    assert store.read(lambda c: factors.are_genuine(c, ADA))


def test_there_are_256_shares_of_people_and_nobody_has_one(store, inhabited):
    assert seals.share("usr_15d0010445dc627a2ab1e5aa") == "usr_15"
    assert seals.share("") == "usr_00"
    assert store.read(lambda c: seals.tally(c).sums.factors.keys()) == {"usr_0a", "usr_f0"}
    assert store.read(lambda c: factors.are_genuine(c, ""))
    for person in (ADA, BOB, EVE):
        store.run(lambda c, p=person: factors.forget(c, p))
    assert store.read(lambda c: seals.tally(c).sums.factors) == {}
