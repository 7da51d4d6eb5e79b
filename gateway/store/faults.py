"""Where the database's exceptions end: nothing above `store` sees one of SQLAlchemy's."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from gateway.foundation.errors import Conflict, StoreUnavailable


@contextmanager
def mapped() -> Iterator[None]:
    """A broken rule of the schema is the caller's conflict; anything else means that the store can't be used now.

    The database's own message is kept as the cause, for the operational log; it may hold values, so it is not shown.
    """
    try:
        yield
    except IntegrityError as fault:
        raise Conflict("what was asked contradicts what is stored") from fault
    except (DBAPIError, PoolTimeout, OSError) as fault:
        raise StoreUnavailable(f"the store can't be used now ({type(fault).__name__})") from fault


@contextmanager
def conflict(error: Conflict) -> Iterator[None]:
    """Put a broken rule of the schema into the user's words."""
    try:
        yield
    except IntegrityError as fault:
        raise error from fault
