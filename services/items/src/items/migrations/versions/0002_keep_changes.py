"""Keep versions, changes and request ids."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Adds the version of an item, what happened to items, and the requests that a repeat is known by."""
    code = sa.String(64).with_variant(sa.String(64, collation="C"), "postgresql")
    time = sa.DateTime(timezone=True)
    # The default serves the version of the service before this one, which knows of no versions.
    op.add_column("items", sa.Column("version", sa.BigInteger, nullable=False, server_default=sa.text("0")))
    op.create_table(
        "item_changes",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer, "sqlite"), nullable=False),
        sa.Column("position", sa.BigInteger),
        sa.Column("kind", sa.String(8), nullable=False),
        sa.Column("at", time, nullable=False),
        sa.Column("item_id", code, nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("description", sa.String(2000), nullable=False),
        sa.Column("sku", code, nullable=False),
        sa.Column("quantity", sa.Integer, nullable=False),
        sa.Column("price", sa.Double, nullable=False),
        sa.Column("is_active", sa.Boolean, nullable=False),
        sa.Column("created_at", time, nullable=False),
        sa.Column("updated_at", time, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_item_changes_number")),
        sa.UniqueConstraint("position", name=op.f("uq_item_changes_position")),
        sqlite_autoincrement=True,
    )
    unplaced = sa.text("position IS NULL")
    op.create_index(
        "ix_item_changes_unplaced", "item_changes", ["number"], postgresql_where=unplaced, sqlite_where=unplaced
    )
    head = op.create_table(
        "item_changes_head",
        sa.Column("id", sa.Integer, autoincrement=False, nullable=False),
        sa.Column("placed", sa.BigInteger, nullable=False),
        sa.Column("trimmed", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_item_changes_head_id")),
        sa.CheckConstraint("id = 1", name=op.f("ck_item_changes_head_one_row")),
    )
    op.bulk_insert(head, [{"id": 1, "placed": 0, "trimmed": 0}])
    op.create_table(
        "item_requests",
        sa.Column("key", sa.LargeBinary(32), nullable=False),
        sa.Column("body", sa.LargeBinary(32), nullable=False),
        sa.Column("item_id", code, nullable=False),
        sa.Column("created_at", time, nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_item_requests_key")),
    )
    op.create_index(op.f("ix_item_requests_created_at"), "item_requests", ["created_at"])


def downgrade() -> None:
    """Drops the versions, the changes and the requests."""
    op.drop_table("item_requests")
    op.drop_table("item_changes_head")
    op.drop_table("item_changes")
    with op.batch_alter_table("items") as items:
        items.drop_column("version")
