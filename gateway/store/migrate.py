"""Bringing the store's schema up to this version of the code; never down.

Law: only the keeper migrates (and a command while nothing runs); the others refuse a schema that is not theirs.
"""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from gateway.foundation.errors import GatewayError, StoreUnavailable
from gateway.store.engine import Store
from gateway.store.faults import mapped

_MIGRATIONS = Path(__file__).parent / "migrations"


def migrate(store: Store) -> None:
    """Make the store if there is none, and bring it up to date. Does nothing when it is; safe beside another one.

    Raises GatewayError if it is newer than this code, StoreUnavailable if it can't be used.
    """
    with mapped(), store.backend.migration_lock():
        store.backend.create()
        store.run(_upgrade)


def require_current(store: Store) -> None:
    """Raises StoreUnavailable while the store is older than this code, GatewayError if it is newer."""
    found = store.read(schema)
    require_known(found)
    if found != newest():
        raise StoreUnavailable(f"the store has the schema {found or 'of an empty file'}: it was not migrated yet")


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


def _upgrade(connection: Connection) -> None:
    require_known(schema(connection))
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _config() -> Config:
    config = Config()
    # Alembic reads options with `%` interpolation, and a folder may be called anything.
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    return config


def _scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(_config())
