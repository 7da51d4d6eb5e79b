"""Bringing the store's schema up to this version of the code; never down.

Law: only the keeper migrates (and a command while nothing runs); the others refuse tables that are not theirs, and so
does whoever has migrated (`engine.Backend.require_ours`).
"""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, delete, select

from gateway.foundation.errors import GatewayError, StoreTampered
from gateway.store import authority
from gateway.store.engine import Store
from gateway.store.faults import mapped
from gateway.store.past import Past, Stamp
from gateway.store.tables import META

_BEFORE_SEALS = (None, "0001")

_MIGRATIONS = Path(__file__).parent / "migrations"


def migrate(store: Store, *, is_known: bool = False) -> int:
    """Make the store if there is none, and bring it up to date. Does nothing when it is; safe beside another one.

    How many contents were sealed, for the first time. `is_known`: it was here, and sealed, before: then it is never
    made, and never sealed again. Raises StoreTampered if it would have to be, GatewayError if it is newer than this
    code, StoreUnavailable if it can't be used.
    """
    with mapped(), store.backend.migration_lock():
        if is_known and not store.backend.exists():
            raise StoreTampered("the store is gone: put back a copy with `snapshot restore`")
        store.backend.create()
        return store.upgrade(lambda connection: _upgrade(connection, is_known=is_known))


def schema(connection: Connection) -> str | None:
    """The revision that the store is at; None for an empty one."""
    return MigrationContext.configure(connection).get_current_revision()


def newest() -> str:
    """The revision that this code is written for."""
    head = _scripts().get_current_head()
    if head is None:
        raise GatewayError(f"{_MIGRATIONS} holds no migrations: the installation is damaged")
    return head


def require_known(revision: str | None) -> None:
    """Raises GatewayError for a revision that this code has not heard of."""
    known = {script.revision for script in _scripts().walk_revisions()}
    if revision is not None and revision not in known:
        raise GatewayError(
            f"the store was written by a newer version (schema {revision}; this version knows up to {newest()}): "
            "install that version again, or restore a snapshot that was made before the upgrade"
        )


def _upgrade(connection: Connection, *, is_known: bool) -> int:
    before = schema(connection)
    require_known(before)
    is_sealed = before not in _BEFORE_SEALS
    if is_known and not is_sealed:
        raise StoreTampered("the store has no seals, and it had: put back a copy with `snapshot restore`")
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
    return (
        0 if is_sealed else authority.reseal(connection, Past(Stamp(_epoch_before_seals(connection), revision=0), {}))
    )


def _epoch_before_seals(connection: Connection) -> int:
    """It was in a row of `META` then."""
    which = META.c.name == "epoch"
    number = int(connection.execute(select(META.c.value).where(which)).scalar_one())
    connection.execute(delete(META).where(which))
    return number


def _config() -> Config:
    config = Config()
    # Alembic reads options with `%` interpolation, and a folder may be called anything.
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    return config


def _scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(_config())
