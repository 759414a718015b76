"""What Alembic runs: the migrations, inside the transaction of the connection it is given."""

from alembic import context

from auth.table import METADATA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    render_as_batch=True,  # SQLite alters a table by copying it
)
context.run_migrations()
