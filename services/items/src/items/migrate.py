"""Brings the database to the schema that this version of the service needs: `python -m items.migrate`."""

from pathlib import Path
from typing import Final

from grpc_common.database.migrations import Migrations
from items.settings import ItemsSettings

MIGRATIONS: Final = Migrations("items", Path(__file__).parent / "migrations")

if __name__ == "__main__":
    MIGRATIONS.main(ItemsSettings)
