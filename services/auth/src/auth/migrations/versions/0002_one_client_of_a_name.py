"""Keep apart no two clients by capital letters alone."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Gives each client its name in small letters; of several with the same one the oldest has it, and all stay."""
    code = sa.String(64).with_variant(sa.String(64, collation="C"), "postgresql")
    with op.batch_alter_table("clients") as clients:
        clients.add_column(sa.Column("folded", code))
    op.execute(
        "UPDATE clients SET folded = lower(client_id) WHERE NOT EXISTS ("
        "SELECT 1 FROM clients AS older WHERE lower(older.client_id) = lower(clients.client_id) AND "
        "(older.created_at < clients.created_at OR "
        "older.created_at = clients.created_at AND older.client_id < clients.client_id))"
    )
    with op.batch_alter_table("clients") as clients:
        clients.create_unique_constraint(op.f("uq_clients_folded"), ["folded"])


def downgrade() -> None:
    """Drops the names in small letters."""
    with op.batch_alter_table("clients") as clients:
        clients.drop_constraint(op.f("uq_clients_folded"), type_="unique")
        clients.drop_column("folded")
