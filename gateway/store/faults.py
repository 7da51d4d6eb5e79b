"""Where the database's exceptions end: nothing above `store` sees one of SQLAlchemy's."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from gateway.foundation.errors import Conflict, StoreTampered, StoreUnavailable
from gateway.store.sqlite import DAMAGED, is_damage, is_full


@contextmanager
def mapped() -> Iterator[None]:
    """A broken rule of the schema is the caller's conflict; a file that is damaged was changed by somebody else, if
    only by its disk; anything else means that the store can't be used now.

    The database's own message is kept as the cause, for the operational log; it may hold values, so it is not shown.
    """
    try:
        yield
    except IntegrityError as fault:
        raise Conflict("what was asked contradicts what is stored") from fault
    except (DBAPIError, PoolTimeout, OSError) as fault:
        if isinstance(fault, DBAPIError) and is_damage(fault.orig):
            raise StoreTampered(DAMAGED) from fault
        if isinstance(fault, DBAPIError) and is_full(fault.orig):
            raise StoreUnavailable("the store can't be written: its disk is full") from fault
        raise StoreUnavailable(f"the store can't be used now ({type(fault).__name__})") from fault


@contextmanager
def conflict(error: Conflict) -> Iterator[None]:
    """Put a broken rule of the schema into the user's words."""
    try:
        yield
    except IntegrityError as fault:
        raise error from fault
