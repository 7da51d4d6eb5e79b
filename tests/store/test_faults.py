import sqlite3

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DatabaseError, IntegrityError, OperationalError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from gateway.foundation.errors import Conflict, NotFound, StoreTampered, StoreUnavailable
from gateway.store.faults import conflict, mapped


def native(code: int) -> sqlite3.DatabaseError:
    fault = sqlite3.DatabaseError("usr_ada, a value that is nobody's business")
    fault.sqlite_errorcode = code
    return fault


NATIVE = sqlite3.Error("usr_ada, a value that is nobody's business")


@pytest.mark.parametrize(
    ("fault", "ours"),
    [
        (IntegrityError("", {}, NATIVE), Conflict),
        (OperationalError("", {}, NATIVE), StoreUnavailable),
        (DatabaseError("", {}, NATIVE), StoreUnavailable),
        (ProgrammingError("", {}, NATIVE), StoreUnavailable),
        (PoolTimeout(), StoreUnavailable),
        (FileNotFoundError("/var/lib/store.db"), StoreUnavailable),
        (DatabaseError("", {}, native(sqlite3.SQLITE_CORRUPT)), StoreTampered),
        (DatabaseError("", {}, native(sqlite3.SQLITE_CORRUPT_INDEX)), StoreTampered),
        (DatabaseError("", {}, native(sqlite3.SQLITE_NOTADB)), StoreTampered),
        (OperationalError("", {}, native(sqlite3.SQLITE_BUSY)), StoreUnavailable),
        (OperationalError("", {}, native(sqlite3.SQLITE_FULL)), StoreUnavailable),
        (OperationalError("", {}, native(sqlite3.SQLITE_IOERR_READ)), StoreUnavailable),
    ],
)
def test_a_fault_of_the_database_becomes_ours_and_tells_nothing(fault, ours):
    with pytest.raises(ours) as caught, mapped():
        raise fault
    assert type(caught.value) is ours
    assert caught.value.__cause__ is fault
    assert "usr_ada" not in str(caught.value)
    assert "/var" not in str(caught.value)


def test_a_full_disk_is_named():
    with pytest.raises(StoreUnavailable, match="its disk is full"), mapped():
        raise OperationalError("", {}, native(sqlite3.SQLITE_FULL))


@pytest.mark.advisory("CVE-2025-52893")
def test_not_even_the_operational_log_gets_the_values(store):
    """What somebody typed as their name may be their password, and the cause of a fault is logged with it."""
    with pytest.raises(StoreUnavailable) as caught:
        store.run(lambda c: c.execute(text("SELECT :typed FROM nothing"), {"typed": "correct horse battery"}))
    assert isinstance(caught.value.__cause__, OperationalError)
    assert "correct horse" not in str(caught.value.__cause__)


@pytest.mark.parametrize("fault", [NotFound("x"), StoreUnavailable("x"), KeyError("x")])
def test_any_other_passes(fault):
    with pytest.raises(type(fault)) as caught, mapped():
        raise fault
    assert caught.value is fault


def test_a_broken_rule_is_put_into_the_user_s_words():
    with pytest.raises(NotFound, match="no person"), conflict(NotFound("there is no person")):
        raise IntegrityError("", {}, NATIVE)
    with pytest.raises(OperationalError), conflict(NotFound("there is no person")):
        raise OperationalError("", {}, NATIVE)
