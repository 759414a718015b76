"""Brings a database to the schema that its service needs."""

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
from grpc_common.database.settings import DatabaseSettings
from grpc_common.errors import AppException, DatabaseError
from grpc_common.settings import SettingsError, load_settings

# One connection; a statement may rewrite a large table, or wait while another process migrates.
LIMITS: Final = Limits(connections=1, pool_timeout=1, connect_timeout=10, statement_timeout=3600)


class Migrations:
    """The migrations of one package, an Alembic folder whose `env.py` uses the connection that it finds in
    `context.config.attributes["connection"]`. `python -m <package>.migrate` must call `main`.

    Every verb raises ExternalServiceError when the database cannot be reached, and DatabaseError when it fails.
    """

    def __init__(self, package: str, folder: Path) -> None:
        self._package = package
        self._folder = folder
        # PostgreSQL's advisory locks are numbers, and each database has its own.
        self._lock = int.from_bytes(package.encode()[:8], signed=True)

    async def upgrade(self, url: str) -> None:
        """Upgrades to the newest schema, in one transaction; the second of two who do so at once finds nothing to
        do. A database ahead of this version is left as it is, so that an older one starts beside and after a newer one.
        """
        await self._run(url, self._upgrade)

    async def downgrade(self, url: str, revision: str) -> None:
        """Goes back to an older revision; "base" removes everything."""
        await self._run(url, lambda config: command.downgrade(config, revision))

    async def require_current(self, engine: AsyncEngine) -> None:
        """Raises DatabaseError when the database lacks a migration; one ahead of this version is served still."""
        with translated_errors():
            async with engine.connect() as connection:
                behind = await connection.run_sync(self._is_behind)
        if behind:
            raise DatabaseError(f"the database lacks migrations: run python -m {self._package}.migrate first")

    def main(self, settings: type[DatabaseSettings]) -> None:
        """Upgrades the database of the settings, as a program: exits with 0 when the schema is the newest, with 1 when
        it could not be made so, with 2 for bad settings.
        """
        try:
            asyncio.run(self.upgrade(load_settings(settings).database_url.get_secret_value()))
        except SettingsError as error:
            print(error, file=sys.stderr)
            sys.exit(2)
        except AppException as error:
            sys.exit(error.message)

    async def _run(self, url: str, verb: Callable[[Config], None]) -> None:
        async with open_engine(url, LIMITS, self._package) as engine:
            with translated_errors():
                async with engine.begin() as connection:
                    await connection.run_sync(self._alone, verb)

    def _alone(self, connection: Connection, verb: Callable[[Config], None]) -> None:
        if connection.dialect.name == "postgresql":  # on SQLite the transaction itself keeps others out
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({self._lock})")
        verb(self._config(connection))

    def _upgrade(self, config: Config) -> None:
        if self._is_behind(config.attributes["connection"]):
            command.upgrade(config, "head")

    def _is_behind(self, connection: Connection) -> bool:
        scripts = ScriptDirectory.from_config(self._config(connection))
        current = MigrationContext.configure(connection).get_current_revision()
        known = {script.revision for script in scripts.walk_revisions()}
        return current is None or (current in known and current != scripts.get_current_head())

    def _config(self, connection: Connection) -> Config:
        config = Config(attributes={"connection": connection})
        config.set_main_option("script_location", str(self._folder).replace("%", "%%"))  # ConfigParser's escape
        return config
