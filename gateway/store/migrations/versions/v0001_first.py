"""The first schema."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    _bookkeeping()
    _people()
    _sessions()
    _services()
    op.execute("INSERT INTO meta (name, value) VALUES ('epoch', 1), ('changes_floor', 0)")


def _seconds() -> sa.types.TypeEngine[float]:
    return sa.Double().with_variant(sa.REAL(), "sqlite")


def _counter() -> sa.types.TypeEngine[int]:
    return sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _people() -> None:
    op.create_table(
        "tenants",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("created_at", _seconds(), nullable=False),
        sa.Column("closed_at", _seconds(), nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_tenants")),
        sqlite_strict=True,
    )
    op.create_table(
        "people",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("display", sa.Text(), nullable=False),
        sa.Column("home", sa.Text(), nullable=False),
        sa.Column("created_at", _seconds(), nullable=False),
        sa.Column("disabled_at", _seconds(), nullable=True),
        sa.Column("removed_at", _seconds(), nullable=True),
        sa.CheckConstraint("length(id) > 0 AND length(name) > 0", name=op.f("ck_people_named")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_people")),
        sa.UniqueConstraint("name", name=op.f("uq_people_name")),
        sqlite_strict=True,
    )
    op.create_table(
        "person_grants",
        sa.Column("person", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("until", _seconds(), nullable=True),
        sa.CheckConstraint("length(role) > 0 AND length(tenant) > 0", name=op.f("ck_person_grants_whole")),
        sa.ForeignKeyConstraint(["person"], ["people.id"], name=op.f("fk_person_grants_person")),
        sa.PrimaryKeyConstraint("person", "role", "tenant", name=op.f("pk_person_grants")),
        sqlite_strict=True,
    )
    op.create_table(
        "passwords",
        sa.Column("person", sa.Text(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.Column("changed_at", _seconds(), nullable=False),
        sa.ForeignKeyConstraint(["person"], ["people.id"], name=op.f("fk_passwords_person")),
        sa.PrimaryKeyConstraint("person", name=op.f("pk_passwords")),
        sqlite_strict=True,
    )
    op.create_table(
        "authenticators",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("person", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("last_step", _counter(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("created_at", _seconds(), nullable=False),
        sa.Column("disabled_at", _seconds(), nullable=True),
        sa.ForeignKeyConstraint(["person"], ["people.id"], name=op.f("fk_authenticators_person")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_authenticators")),
        sqlite_strict=True,
    )
    op.create_index(op.f("ix_authenticators_person"), "authenticators", ["person"], unique=False)
    op.create_table(
        "enrolments",
        sa.Column("token_hash", sa.LargeBinary(), nullable=False),
        sa.Column("person", sa.Text(), nullable=False),
        sa.Column("expires_at", _seconds(), nullable=False),
        sa.ForeignKeyConstraint(["person"], ["people.id"], name=op.f("fk_enrolments_person")),
        sa.PrimaryKeyConstraint("token_hash", name=op.f("pk_enrolments")),
        sa.UniqueConstraint("person", name=op.f("uq_enrolments_person")),
        sqlite_strict=True,
    )


def _sessions() -> None:
    op.create_table(
        "sessions",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("person", sa.Text(), nullable=False),
        sa.Column("created_at", _seconds(), nullable=False),
        sa.Column("until", _seconds(), nullable=False),
        sa.Column("otp_time", _seconds(), nullable=True),
        sa.Column("amr", sa.Text(), nullable=False),
        sa.Column("client", sa.Text(), nullable=False),
        sa.Column("ended_at", _seconds(), nullable=True),
        sa.Column("ended_why", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["person"], ["people.id"], name=op.f("fk_sessions_person")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sessions")),
        sqlite_strict=True,
    )
    op.create_index(op.f("ix_sessions_person"), "sessions", ["person"], unique=False)
    op.create_index("ix_sessions_until", "sessions", ["until"], unique=False)
    op.create_table(
        "host_tokens",
        sa.Column("token_hash", sa.LargeBinary(), nullable=False),
        sa.Column("session", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.CheckConstraint("length(token_hash) = 32", name=op.f("ck_host_tokens_hashed")),
        sa.ForeignKeyConstraint(["session"], ["sessions.id"], name=op.f("fk_host_tokens_session"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("token_hash", name=op.f("pk_host_tokens")),
        sa.UniqueConstraint("session", "host", name=op.f("uq_host_tokens_session")),
        sqlite_strict=True,
    )
    op.create_table(
        "activity",
        sa.Column("session", sa.Text(), nullable=False),
        sa.Column("last_used", _seconds(), nullable=False),
        sa.ForeignKeyConstraint(["session"], ["sessions.id"], name=op.f("fk_activity_session"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("session", name=op.f("pk_activity")),
        sqlite_strict=True,
    )
    op.create_table(
        "hand_overs",
        sa.Column("code_hash", sa.LargeBinary(), nullable=False),
        sa.Column("session", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("nonce_hash", sa.LargeBinary(), nullable=False),
        sa.Column("expires_at", _seconds(), nullable=False),
        sa.ForeignKeyConstraint(["session"], ["sessions.id"], name=op.f("fk_hand_overs_session"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("code_hash", name=op.f("pk_hand_overs")),
        sqlite_strict=True,
    )
    op.create_index(op.f("ix_hand_overs_expires_at"), "hand_overs", ["expires_at"], unique=False)
    op.create_table(
        "pending",
        sa.Column("token_hash", sa.LargeBinary(), nullable=False),
        sa.Column("stage", sa.Text(), nullable=False),
        sa.Column("person", sa.Text(), nullable=True),
        sa.Column("since", _seconds(), nullable=False),
        sa.Column("expires_at", _seconds(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("request", sa.Text(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=True),
        sa.ForeignKeyConstraint(["person"], ["people.id"], name=op.f("fk_pending_person")),
        sa.PrimaryKeyConstraint("token_hash", name=op.f("pk_pending")),
        sqlite_strict=True,
    )
    op.create_index(op.f("ix_pending_expires_at"), "pending", ["expires_at"], unique=False)


def _services() -> None:
    op.create_table(
        "accounts",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("created_at", _seconds(), nullable=False),
        sa.CheckConstraint("length(id) > 0 AND length(name) > 0", name=op.f("ck_accounts_named")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_accounts")),
        sa.UniqueConstraint("name", name=op.f("uq_accounts_name")),
        sqlite_strict=True,
    )
    op.create_table(
        "tokens",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("token_hash", sa.LargeBinary(), nullable=False),
        sa.Column("applications", sa.Text(), nullable=True),
        sa.Column("created_at", _seconds(), nullable=False),
        sa.Column("expires_at", _seconds(), nullable=True),
        sa.Column("revoked_at", _seconds(), nullable=True),
        sa.CheckConstraint("length(token_hash) = 32", name=op.f("ck_tokens_hashed")),
        sa.ForeignKeyConstraint(["account"], ["accounts.id"], name=op.f("fk_tokens_account")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tokens")),
        sa.UniqueConstraint("token_hash", name=op.f("uq_tokens_token_hash")),
        sqlite_strict=True,
    )
    op.create_index(op.f("ix_tokens_account"), "tokens", ["account"], unique=False)
    op.create_table(
        "token_grants",
        sa.Column("token", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("until", _seconds(), nullable=True),
        sa.CheckConstraint("length(role) > 0 AND length(tenant) > 0", name=op.f("ck_token_grants_whole")),
        sa.ForeignKeyConstraint(["token"], ["tokens.id"], name=op.f("fk_token_grants_token")),
        sa.PrimaryKeyConstraint("token", "role", "tenant", name=op.f("pk_token_grants")),
        sqlite_strict=True,
    )


def _bookkeeping() -> None:
    op.create_table(
        "meta",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", _counter(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_meta")),
        sqlite_strict=True,
    )
    op.create_table(
        "changes",
        sa.Column("position", _counter(), autoincrement=True, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("at", _seconds(), nullable=False),
        sa.PrimaryKeyConstraint("position", name=op.f("pk_changes")),
        sqlite_autoincrement=True,
        sqlite_strict=True,
    )
    op.create_table(
        "throttle",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("bucket", _counter(), nullable=False),
        sa.Column("hits", sa.Integer(), nullable=False),
        sa.Column("previous", sa.Integer(), nullable=False),
        sa.Column("expires_at", _seconds(), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_throttle")),
        sqlite_strict=True,
    )
