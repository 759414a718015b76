"""Brings the database to the schema that this version of the service needs: `python -m items.migrate`."""

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncEngine

from grpc_common.database.driver_errors import translated_errors
from grpc_common.database.engine import Limits, open_engine
from grpc_common.errors import AppException, DatabaseError
from grpc_common.settings import SettingsError, load_settings
from items.settings import ItemsSettings

# One connection; a statement may rewrite a large table, or wait while another process migrates.
LIMITS: Final = Limits(connections=1, pool_timeout=1, connect_timeout=10, statement_timeout=3600)
_LOCK: Final = 0x6974656D73  # "items": PostgreSQL's advisory locks are numbers


async def migrate(url: str) -> None:
    """Upgrades to the newest schema, in one transaction; the second of two who do so at once finds nothing to do."""
    await _run(url, lambda config: command.upgrade(config, "head"))


async def downgrade(url: str, revision: str) -> None:
    """Goes back to an older revision; "base" removes everything."""
    await _run(url, lambda config: command.downgrade(config, revision))


async def require_current(engine: AsyncEngine) -> None:
    """Raises DatabaseError when the database lacks a migration; a database ahead of this version serves it still."""
    with translated_errors():
        async with engine.connect() as connection:
            behind = await connection.run_sync(_is_behind)
    if behind:
        raise DatabaseError("the database lacks migrations: run python -m items.migrate first")


async def _run(url: str, verb: Callable[[Config], None]) -> None:
    async with open_engine(url, LIMITS, "items") as engine:
        with translated_errors():
            async with engine.begin() as connection:
                await connection.run_sync(_alone, verb)


def _alone(connection: Connection, verb: Callable[[Config], None]) -> None:
    if connection.dialect.name == "postgresql":  # on SQLite the transaction itself keeps others out
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
    verb(_config(connection))


def _is_behind(connection: Connection) -> bool:
    scripts = ScriptDirectory.from_config(_config(connection))
    current = MigrationContext.configure(connection).get_current_revision()
    known = {script.revision for script in scripts.walk_revisions()}
    return current is None or (current in known and current != scripts.get_current_head())


def _config(connection: Connection) -> Config:
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config


def main() -> None:
    """Exits with 0 when the schema is the newest, with 1 when it could not be made so, with 2 for bad settings."""
    try:
        settings = load_settings(ItemsSettings)
        asyncio.run(migrate(settings.database_url.get_secret_value()))
    except SettingsError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    except AppException as error:
        sys.exit(error.message)


if __name__ == "__main__":
    main()
