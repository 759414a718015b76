"""Keep the secret that page and resume tokens are sealed with."""

import secrets

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Makes up the secret."""
    table = op.create_table(
        "item_token_secrets",
        sa.Column("number", sa.Integer, autoincrement=False, nullable=False),
        sa.Column("secret", sa.LargeBinary(32), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_item_token_secrets_number")),
    )
    op.bulk_insert(table, [{"number": 1, "secret": secrets.token_bytes(32)}])


def downgrade() -> None:
    """Forgets the secret."""
    op.drop_table("item_token_secrets")
