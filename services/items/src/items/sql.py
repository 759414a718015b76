"""Keeps items in PostgreSQL or SQLite."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime
from typing import Any, Final, Never

from sqlalchemy import bindparam, case, delete, false, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from grpc_common.database.driver_errors import translated_errors
from grpc_common.database.reader import Reader
from grpc_common.errors import AbortedError, AppException, ConflictError, NotFoundError, ValidationError
from grpc_common.etag import matches, version_of
from grpc_common.listing.order import Position
from grpc_common.listing.query import Query
from items.additions import add_all
from items.change import Change, ChangeKind
from items.changes import record
from items.item import Item, ItemChange, WholeItem
from items.repository import Addition
from items.table import ITEMS, item_of, row_of


class SqlItemRepository:
    """An ItemRepository on the items table; both databases run the same statements. `changed` is called when a change
    is committed.
    """

    def __init__(self, engine: AsyncEngine, changed: Callable[[], None] = lambda: None) -> None:
        self._engine = engine
        self._changed = changed
        self._reader = Reader(engine)

    async def get(self, item_id: str) -> Item:
        """Returns the item, or raises NotFoundError."""
        with translated_errors():
            rows = await self._reader.rows(_GET, {"item_id": item_id})
        if not rows:
            raise _unknown(item_id)
        return item_of(rows[0])

    async def page(self, query: Query, after: Position | None, limit: int) -> Sequence[Item]:
        """Reads one page by its position, whose cost does not grow with what lies before."""
        reading = select(ITEMS).where(query.condition).order_by(*query.order_by).limit(limit)
        if after is not None:
            reading = reading.where(query.after(after))
        with translated_errors():
            return [item_of(row) for row in await self._reader.rows(reading)]

    async def add(self, addition: Addition) -> Item:
        """Inserts the item, unless its mark is known."""
        (outcome,) = await self.add_many([addition])
        if isinstance(outcome, AppException):
            raise outcome
        return outcome

    async def add_many(self, additions: Sequence[Addition]) -> Sequence[Item | AppException]:
        """Inserts the items with a few statements."""
        if not additions:
            return []
        async with self._writing() as connection:
            return await add_all(connection, additions)

    async def update(self, change: ItemChange, now: datetime) -> Item:
        """Writes the changed fields in one statement, so that changes of other fields at the same time are kept."""
        if not change.values:
            item = await self.get(change.id)
            return item if matches(change.etag, item.version) else _stale(change.id)
        later = case((ITEMS.c.updated_at > now, ITEMS.c.updated_at), else_=now)
        values = {**change.values, "updated_at": later, "version": ITEMS.c.version + 1}
        async with self._writing() as connection:
            statement = update(ITEMS).where(*_is(change.id, change.etag)).values(**values).returning(*ITEMS.c)
            row = (await connection.execute(statement)).one_or_none()
            if row is None:
                await _refuse(connection, change.id, change.etag)
            item = item_of(row)
            await record(connection, [Change(ChangeKind.UPDATED, item, now)])
            return item

    async def put(self, wanted: WholeItem, now: datetime) -> Item:
        """Looks for the item, locks it and writes what differs."""
        try:
            return await self._put(wanted, now)
        except ConflictError as conflict:
            if conflict.field != "id":
                raise
            return await self._put(wanted, now)  # somebody created it in between

    async def delete(self, item_id: str, now: datetime, etag: str = "") -> None:
        """Deletes the item in one statement."""
        async with self._writing() as connection:
            statement = delete(ITEMS).where(*_is(item_id, etag)).returning(*ITEMS.c)
            row = (await connection.execute(statement)).one_or_none()
            if row is None:
                await _refuse(connection, item_id, etag)
            await record(connection, [Change(ChangeKind.DELETED, item_of(row), now)])

    async def _put(self, wanted: WholeItem, now: datetime) -> Item:
        async with self._writing() as connection:
            found = await connection.execute(select(ITEMS).where(ITEMS.c.id == wanted.id).with_for_update())
            row = found.one_or_none()
            if row is None:
                return await _create(connection, wanted, now)
            item = item_of(row)
            if not matches(wanted.etag, item.version):
                _stale(item.id)
            if wanted.sku != item.sku:
                raise ValidationError("of an item cannot be replaced", field="sku")
            replaced = replace(item, **wanted.values)
            if replaced == item:
                return item
            replaced = replace(replaced, updated_at=max(now, item.updated_at), version=item.version + 1)
            await connection.execute(update(ITEMS).where(ITEMS.c.id == item.id).values(row_of(replaced)))
            await record(connection, [Change(ChangeKind.UPDATED, replaced, now)])
            return replaced

    @asynccontextmanager
    async def _writing(self) -> AsyncIterator[AsyncConnection]:
        with translated_errors({ITEMS.name: "item"}):
            async with self._engine.begin() as connection:
                yield connection
        self._changed()


_GET: Final = select(ITEMS).where(ITEMS.c.id == bindparam("item_id"))


async def _create(connection: AsyncConnection, wanted: WholeItem, now: datetime) -> Item:
    if wanted.etag:
        _stale(wanted.id)
    item = wanted.become(now)
    await connection.execute(insert(ITEMS).values(row_of(item)))
    await record(connection, [Change(ChangeKind.CREATED, item, now)])
    return item


def _is(item_id: str, etag: str) -> Sequence[Any]:
    conditions: list[Any] = [ITEMS.c.id == item_id]
    if etag:
        version = version_of(etag)
        conditions.append(false() if version is None else ITEMS.c.version == version)
    return conditions


async def _refuse(connection: AsyncConnection, item_id: str, etag: str) -> Never:
    """Says why there was no such item to write."""
    there = (await connection.execute(select(ITEMS.c.id).where(ITEMS.c.id == item_id))).one_or_none()
    if etag and there is not None:
        _stale(item_id)
    raise _unknown(item_id)


def _stale(item_id: str) -> Never:
    raise AbortedError(f"the item {item_id} changed since it had this etag: read it again", field="etag")


def _unknown(item_id: str) -> NotFoundError:
    return NotFoundError(f"there is no item {item_id}", field="id")
