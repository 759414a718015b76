"""Let all sessions be ended at once, by beginning another epoch."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Has the sessions there are live in the first epoch."""
    table = op.create_table(
        "session_epoch",
        sa.Column("id", sa.Integer, autoincrement=False, nullable=False),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("issued_until", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_session_epoch_id")),
        sa.CheckConstraint("id = 1", name=op.f("ck_session_epoch_one_row")),
    )
    op.bulk_insert(table, [{"id": 1, "epoch": 0, "issued_until": 0.0}])
    op.add_column("families", sa.Column("epoch", sa.BigInteger, nullable=False, server_default=sa.text("0")))


def downgrade() -> None:
    """Ends for good what another epoch has ended, and drops the epochs."""
    op.execute(
        "UPDATE families SET revoked = 'all_ended' WHERE revoked IS NULL AND epoch <> (SELECT epoch FROM session_epoch)"
    )
    with op.batch_alter_table("families") as families:
        families.drop_column("epoch")
    op.drop_table("session_epoch")
