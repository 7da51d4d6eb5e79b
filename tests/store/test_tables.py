"""What the migrations make is what `tables.py` says."""

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import CheckConstraint

from gateway.store.tables import METADATA


def test_the_steps_lead_to_the_tables(store):
    options = {"compare_type": True, "compare_server_default": True}
    difference = store.read(lambda c: compare_metadata(MigrationContext.configure(c, opts=options), METADATA))
    assert difference == []


def test_every_table_is_strict_and_has_its_checks(store):
    def tables(connection) -> dict[str, str]:
        rows = connection.exec_driver_sql("SELECT name, trim(sql, char(10)) FROM sqlite_schema WHERE type = 'table'")
        return {name: sql for name, sql in rows if name not in ("alembic_version", "sqlite_sequence")}

    found = store.read(tables)
    assert set(found) == set(METADATA.tables)
    for name, sql in found.items():
        assert sql.endswith("STRICT"), name
        # Alembic compares keys, and no checks.
        checks = [rule for rule in METADATA.tables[name].constraints if isinstance(rule, CheckConstraint)]
        assert [rule.name for rule in checks if rule.name not in sql] == [], name
    assert "AUTOINCREMENT" in found["changes"]
