"""Keep users, clients, families of refresh tokens, and the events that tell of them."""

import secrets

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Creates the tables, with nobody in them, and makes up the secret for page tokens."""
    code = sa.String(64).with_variant(sa.String(64, collation="C"), "postgresql")
    family_id = sa.String(32).with_variant(sa.String(32, collation="C"), "postgresql")
    time = sa.DateTime(timezone=True)
    op.create_table(
        "users",
        sa.Column("id", code, nullable=False),
        sa.Column("username", code, nullable=False),
        sa.Column("password_hash", sa.Text, nullable=False),
        sa.Column("roles", sa.Text, nullable=False),
        sa.Column(
            "is_admin",
            sa.Boolean,
            sa.Computed("(' ' || roles || ' ') LIKE '% admin %'", persisted=True),
            nullable=False,
        ),
        sa.Column("disabled", sa.Boolean, nullable=False),
        sa.Column("created_at", time, nullable=False),
        sa.Column("updated_at", time, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_users_id")),
        sa.UniqueConstraint("username", name=op.f("uq_users_username")),
    )
    administrators = sa.text("is_admin")
    op.create_index(
        "ix_users_administrators", "users", ["id"], postgresql_where=administrators, sqlite_where=administrators
    )
    guard = op.create_table(
        "administrators",
        sa.Column("id", sa.Integer, autoincrement=False, nullable=False),
        sa.Column("first_id", code),
        sa.Column("removals", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_administrators_id")),
        sa.CheckConstraint("id = 1", name=op.f("ck_administrators_one_row")),
    )
    op.bulk_insert(guard, [{"id": 1, "removals": 0}])
    op.create_table(
        "clients",
        sa.Column("client_id", code, nullable=False),
        sa.Column("secret_hash", sa.LargeBinary(32), nullable=False),
        sa.Column("roles", sa.Text, nullable=False),
        sa.Column("scopes", sa.Text, nullable=False),
        sa.Column("created_at", time, nullable=False),
        sa.PrimaryKeyConstraint("client_id", name=op.f("pk_clients_client_id")),
    )
    op.create_table(
        "families",
        sa.Column("id", family_id, nullable=False),
        sa.Column("subject", code, nullable=False),
        sa.Column("client_id", code, nullable=False),
        sa.Column("scopes", sa.Text, nullable=False),
        sa.Column("salt", sa.LargeBinary, nullable=False),
        sa.Column("token_hash", sa.LargeBinary(32), nullable=False),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("rotated_at", sa.Double, nullable=False),
        sa.Column("used_at", sa.JSON, nullable=False),
        sa.Column("revoked", sa.String(32)),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_families_id")),
    )
    op.create_index(op.f("ix_families_subject"), "families", ["subject"])
    op.create_index(op.f("ix_families_rotated_at"), "families", ["rotated_at"])
    op.create_table(
        "revocations",
        sa.Column("event_id", sa.String(36), nullable=False),
        sa.Column("identifier", code, nullable=False),
        sa.Column("expires_at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("event_id", name=op.f("pk_revocations_event_id")),
    )
    op.create_index(op.f("ix_revocations_expires_at"), "revocations", ["expires_at"])
    op.create_index(op.f("ix_revocations_identifier"), "revocations", ["identifier"])
    table = op.create_table(
        "auth_token_secrets",
        sa.Column("number", sa.Integer, autoincrement=False, nullable=False),
        sa.Column("secret", sa.LargeBinary(32), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_auth_token_secrets_number")),
    )
    op.bulk_insert(table, [{"number": 1, "secret": secrets.token_bytes(32)}])
    op.create_table(
        "auth_outbox",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer, "sqlite"), nullable=False),
        sa.Column("event_id", sa.String(36), nullable=False),
        sa.Column("subject", code, nullable=False),
        sa.Column("payload", sa.LargeBinary, nullable=False),
        sa.Column("at", time, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False, server_default=sa.text("0")),
        sa.Column("due_at", time, nullable=False),
        sa.Column("told_at", time),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_auth_outbox_number")),
        sqlite_autoincrement=True,
    )
    untold = sa.text("told_at IS NULL")
    op.create_index(
        "ix_auth_outbox_untold", "auth_outbox", ["subject", "number"], postgresql_where=untold, sqlite_where=untold
    )
    op.create_index("ix_auth_outbox_next", "auth_outbox", ["number"], postgresql_where=untold, sqlite_where=untold)
    op.create_index(op.f("ix_auth_outbox_told_at"), "auth_outbox", ["told_at"])


def downgrade() -> None:
    """Drops the tables with everybody in them."""
    for table in ("auth_outbox", "auth_token_secrets", "revocations", "families", "clients", "administrators", "users"):
        op.drop_table(table)
