"""Brings the database to the schema that this version of the service needs: `python -m auth.migrate`."""

from pathlib import Path
from typing import Final

from auth.settings import AuthServiceSettings
from grpc_common.database.migrations import Migrations

MIGRATIONS: Final = Migrations("auth", Path(__file__).parent / "migrations")

if __name__ == "__main__":
    MIGRATIONS.main(AuthServiceSettings)
