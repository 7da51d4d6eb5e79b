"""The schema, in one place. `migrations/` leads to exactly this; a test compares the two.

Times are Unix seconds, tokens and codes are SHA-256 hashes, lists of names are one text separated by spaces (nothing
asks SQL about their parts). SQLite's tables are STRICT, so that a column holds its type and no other.

What tables, indexes and keys do is part of what we have written (`sqlite.Sqlite.require_ours`): a collation that takes
two people for one, or the action of a foreign key, would work in our own transactions for whoever planted it.
"""

from typing import Any

from sqlalchemy import (
    REAL,
    BigInteger,
    CheckConstraint,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Row,
    Select,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.types import TypeEngine

# A table that is no mapped class has no types for its rows; the value that a row becomes has them.
AnyRow = Row[*tuple[Any, ...]]
AnySelect = Select[*tuple[Any, ...]]

METADATA = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# A STRICT table knows REAL (eight bytes) and INTEGER only; elsewhere the same width has other names.
SECONDS: TypeEngine[float] = Double().with_variant(REAL(), "sqlite")
COUNTER: TypeEngine[int] = BigInteger().with_variant(Integer(), "sqlite")

META = Table(
    "meta",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("value", COUNTER, nullable=False),
    sqlite_strict=True,
)

TENANTS = Table(
    "tenants",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("created_at", SECONDS, nullable=False),
    Column("closed_at", SECONDS),
    sqlite_strict=True,
)

PEOPLE = Table(
    "people",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("display", Text, nullable=False),
    Column("home", Text, nullable=False),
    Column("created_at", SECONDS, nullable=False),
    Column("disabled_at", SECONDS),
    Column("removed_at", SECONDS),
    UniqueConstraint("name"),
    CheckConstraint("length(id) > 0 AND length(name) > 0", name="named"),
    sqlite_strict=True,
)

PERSON_GRANTS = Table(
    "person_grants",
    METADATA,
    Column("person", Text, ForeignKey("people.id"), nullable=False),
    Column("role", Text, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("until", SECONDS),
    PrimaryKeyConstraint("person", "role", "tenant"),
    CheckConstraint("length(role) > 0 AND length(tenant) > 0", name="whole"),
    sqlite_strict=True,
)

PASSWORDS = Table(
    "passwords",
    METADATA,
    Column("person", Text, ForeignKey("people.id"), primary_key=True),
    Column("hash", Text, nullable=False),
    Column("changed_at", SECONDS, nullable=False),
    sqlite_strict=True,
)

AUTHENTICATORS = Table(
    "authenticators",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("person", Text, ForeignKey("people.id"), nullable=False, index=True),
    Column("kind", Text, nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    Column("last_step", COUNTER, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("created_at", SECONDS, nullable=False),
    Column("disabled_at", SECONDS),
    sqlite_strict=True,
)

SESSIONS = Table(
    "sessions",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("person", Text, ForeignKey("people.id"), nullable=False, index=True),
    Column("created_at", SECONDS, nullable=False),
    Column("until", SECONDS, nullable=False),
    Column("otp_time", SECONDS),
    Column("amr", Text, nullable=False),
    Column("client", Text, nullable=False),
    Column("ended_at", SECONDS),
    Column("ended_why", Text),
    sqlite_strict=True,
)

HOST_TOKENS = Table(
    "host_tokens",
    METADATA,
    Column("token_hash", LargeBinary, primary_key=True),
    Column("session", Text, ForeignKey("sessions.id", ondelete="CASCADE"), nullable=False),
    Column("host", Text, nullable=False),
    UniqueConstraint("session", "host"),
    CheckConstraint("length(token_hash) = 32", name="hashed"),
    sqlite_strict=True,
)

ACTIVITY = Table(
    "activity",
    METADATA,
    Column("session", Text, ForeignKey("sessions.id", ondelete="CASCADE"), primary_key=True),
    Column("last_used", SECONDS, nullable=False),
    sqlite_strict=True,
)

HAND_OVERS = Table(
    "hand_overs",
    METADATA,
    Column("code_hash", LargeBinary, primary_key=True),
    Column("session", Text, ForeignKey("sessions.id", ondelete="CASCADE"), nullable=False),
    Column("host", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("nonce_hash", LargeBinary, nullable=False),
    Column("expires_at", SECONDS, nullable=False, index=True),
    sqlite_strict=True,
)

PENDING = Table(
    "pending",
    METADATA,
    Column("token_hash", LargeBinary, primary_key=True),
    Column("stage", Text, nullable=False),
    Column("person", Text, ForeignKey("people.id")),
    Column("since", SECONDS, nullable=False),
    Column("expires_at", SECONDS, nullable=False, index=True),
    Column("attempts", Integer, nullable=False),
    Column("request", Text, nullable=False),
    Column("sealed", LargeBinary),
    sqlite_strict=True,
)

ENROLMENTS = Table(
    "enrolments",
    METADATA,
    Column("token_hash", LargeBinary, primary_key=True),
    Column("person", Text, ForeignKey("people.id"), nullable=False),
    Column("expires_at", SECONDS, nullable=False),
    UniqueConstraint("person"),
    sqlite_strict=True,
)

ACCOUNTS = Table(
    "accounts",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("created_at", SECONDS, nullable=False),
    UniqueConstraint("name"),
    CheckConstraint("length(id) > 0 AND length(name) > 0", name="named"),
    sqlite_strict=True,
)

TOKENS = Table(
    "tokens",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("account", Text, ForeignKey("accounts.id"), nullable=False, index=True),
    Column("token_hash", LargeBinary, nullable=False),
    Column("applications", Text),
    Column("created_at", SECONDS, nullable=False),
    Column("expires_at", SECONDS),
    Column("revoked_at", SECONDS),
    UniqueConstraint("token_hash"),
    CheckConstraint("length(token_hash) = 32", name="hashed"),
    sqlite_strict=True,
)

TOKEN_GRANTS = Table(
    "token_grants",
    METADATA,
    Column("token", Text, ForeignKey("tokens.id"), nullable=False),
    Column("role", Text, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("until", SECONDS),
    PrimaryKeyConstraint("token", "role", "tenant"),
    CheckConstraint("length(role) > 0 AND length(tenant) > 0", name="whole"),
    sqlite_strict=True,
)

THROTTLE = Table(
    "throttle",
    METADATA,
    Column("key", Text, primary_key=True),
    Column("bucket", COUNTER, nullable=False),
    Column("hits", Integer, nullable=False),
    Column("previous", Integer, nullable=False),
    Column("expires_at", SECONDS, nullable=False),
    sqlite_strict=True,
)

# AUTOINCREMENT: without it SQLite would give the position of a pruned last entry to another one.
CHANGES = Table(
    "changes",
    METADATA,
    Column("position", COUNTER, primary_key=True, autoincrement=True),
    Column("kind", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("at", SECONDS, nullable=False),
    sqlite_autoincrement=True,
    sqlite_strict=True,
)

# Not a column of what is sealed: a seal is of all rows that together say what one person, session or token may do.
SEALS = Table(
    "seals",
    METADATA,
    Column("kind", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("seal", LargeBinary, nullable=False),
    PrimaryKeyConstraint("kind", "key"),
    sqlite_strict=True,
)

TALLY = Table(
    "tally",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("sealed", LargeBinary, nullable=False),
    CheckConstraint("id = 1", name="one"),
    sqlite_strict=True,
)

DIGEST = "bb14a1f9d536de26855851a7fccfd42e357a9fff718806bd29d6ddf4fe4c5eb9"
"""SHA-256 of all that the migrations make, as SQLite remembers it. A test says what it is."""

LIVE_SESSIONS_INDEX = Index("ix_sessions_until", SESSIONS.c.until)
