"""Keeps items in PostgreSQL or SQLite."""

from dataclasses import asdict
from datetime import datetime

from sqlalchemy import case, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncEngine

from grpc_common.errors import NotFoundError
from items.driver_errors import translated_errors
from items.item import Item, ItemChange
from items.table import ITEMS


class SqlItemRepository:
    """An ItemRepository on the items table; both databases run the same statements."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        # A read is one statement: it needs no BEGIN and ROLLBACK, which are round trips.
        self._reading = engine.execution_options(isolation_level="AUTOCOMMIT")

    async def get(self, item_id: str) -> Item:
        """Returns the item, or raises NotFoundError."""
        with translated_errors():
            async with self._reading.connect() as connection:
                found = await connection.execute(select(ITEMS).where(ITEMS.c.id == item_id))
                row = found.mappings().one_or_none()
        if row is None:
            raise _unknown(item_id)
        return Item(**row)

    async def add(self, item: Item) -> None:
        """Inserts the item, or raises ConflictError."""
        with translated_errors():
            async with self._engine.begin() as connection:
                await connection.execute(insert(ITEMS).values(asdict(item)))

    async def update(self, change: ItemChange, now: datetime) -> Item:
        """Writes the changed fields in one statement, so that changes of other fields at the same time are kept."""
        if not change.values:
            return await self.get(change.id)
        later = case((ITEMS.c.updated_at > now, ITEMS.c.updated_at), else_=now)
        statement = update(ITEMS).where(ITEMS.c.id == change.id).values(**change.values, updated_at=later)
        with translated_errors():
            async with self._engine.begin() as connection:
                written = await connection.execute(statement.returning(*ITEMS.c))
                row = written.mappings().one_or_none()
        if row is None:
            raise _unknown(change.id)
        return Item(**row)

    async def delete(self, item_id: str) -> None:
        """Deletes the item, or raises NotFoundError."""
        with translated_errors():
            async with self._engine.begin() as connection:
                deleted = await connection.execute(delete(ITEMS).where(ITEMS.c.id == item_id))
        if not deleted.rowcount:
            raise _unknown(item_id)


def _unknown(item_id: str) -> NotFoundError:
    return NotFoundError(f"there is no item {item_id}", field="id")
