"""Create the items table."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Creates the table."""
    code = sa.String(64).with_variant(sa.String(64, collation="C"), "postgresql")
    op.create_table(
        "items",
        sa.Column("id", code, nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("description", sa.String(2000), nullable=False),
        sa.Column("sku", code, nullable=False),
        sa.Column("quantity", sa.Integer, nullable=False),
        sa.Column("price", sa.Double, nullable=False),
        sa.Column("is_active", sa.Boolean, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_items_id")),
        sa.UniqueConstraint("sku", name=op.f("uq_items_sku")),
        sa.CheckConstraint("quantity >= 0", name=op.f("ck_items_quantity")),
        sa.CheckConstraint("price >= 0", name=op.f("ck_items_price")),
    )


def downgrade() -> None:
    """Drops the table with all items."""
    op.drop_table("items")
