"""What a database says of its tables, to be compared in tests of migrations."""

from typing import Any

from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, MetaData, inspect

_NOT_OURS = {"alembic_version", "sqlite_sequence"}


def differences(connection: Connection, metadata: MetaData) -> Any:
    """Return what Alembic would change to make the tables those of `metadata`; empty when nothing."""
    context = MigrationContext.configure(connection, opts={"compare_server_default": True})
    return compare_metadata(context, metadata)


def tables(connection: Connection) -> dict[str, Any]:
    """Return everything the database says of each table of the service: more than Alembic compares."""
    inspector = inspect(connection)
    return {
        table: {
            "columns": [{**column, "type": repr(column["type"])} for column in inspector.get_columns(table)],
            "key": inspector.get_pk_constraint(table),
            "unique": inspector.get_unique_constraints(table),
            "checks": sorted(inspector.get_check_constraints(table), key=lambda check: str(check["name"])),
            "indexes": [
                {**index, "dialect_options": str({k: str(v) for k, v in index.get("dialect_options", {}).items()})}
                for index in inspector.get_indexes(table)
            ],
            "foreign": inspector.get_foreign_keys(table),
        }
        for table in sorted(set(inspector.get_table_names()) - _NOT_OURS)
    }
