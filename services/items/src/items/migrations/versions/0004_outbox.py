"""Keep events until they are told."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Makes the outbox; what the version before this one changes in the meantime is told to nobody."""
    code = sa.String(64).with_variant(sa.String(64, collation="C"), "postgresql")
    time = sa.DateTime(timezone=True)
    op.create_table(
        "item_outbox",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer, "sqlite"), nullable=False),
        sa.Column("event_id", sa.String(36), nullable=False),
        sa.Column("item_id", code, nullable=False),
        sa.Column("payload", sa.LargeBinary, nullable=False),
        sa.Column("at", time, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False, server_default=sa.text("0")),
        sa.Column("due_at", time, nullable=False),
        sa.Column("told_at", time),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_item_outbox_number")),
        sqlite_autoincrement=True,
    )
    untold = sa.text("told_at IS NULL")
    op.create_index(
        "ix_item_outbox_untold", "item_outbox", ["item_id", "number"], postgresql_where=untold, sqlite_where=untold
    )
    op.create_index("ix_item_outbox_next", "item_outbox", ["number"], postgresql_where=untold, sqlite_where=untold)
    op.create_index(op.f("ix_item_outbox_told_at"), "item_outbox", ["told_at"])


def downgrade() -> None:
    """Drops the outbox with what is in it."""
    op.drop_table("item_outbox")
