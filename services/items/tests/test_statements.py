"""Statements of calls that are over, and a database without room."""

import asyncio
import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from grpc import StatusCode
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from grpc_common.database.engine import Limits, open_engine
from grpc_common.errors import ExternalServiceError
from grpc_common.new_id import new_id
from items.changes import ChangeLog
from items.item import Item, ItemChange, NewItem
from items.repository import Addition
from items.sql import SqlItemRepository
from items.table import ITEMS
from meshwork.items.v1 import items_service_pb2 as pb
from serving import serving

if TYPE_CHECKING:  # there is no such class at run time
    from meshwork.items.v1.items_service_pb2_grpc import ItemServiceAsyncStub as Stub


async def test_a_call_that_waits_for_a_lock_ends_with_its_deadline_and_keeps_no_connection(
    migrated_url: str, engine: AsyncEngine, limits: Limits, clock: Any
) -> None:
    """More calls than there are connections, while nothing can be written."""
    few = replace(limits, connections=2, pool_timeout=0.2, statement_timeout=30)
    async with open_engine(migrated_url, few) as small, serving(small, clock) as items:
        item = await items.CreateItem(pb.CreateItemRequest(name="Lamp", sku="L-1"))
        async with engine.begin() as holder:
            await holder.execute(ITEMS.update().values(name="held"))
            for _ in range(3):
                began = time.monotonic()
                failed = await asyncio.gather(
                    *(items.UpdateItem(pb.UpdateItemRequest(id=item.id, quantity=n), timeout=0.5) for n in range(2)),
                    return_exceptions=True,
                )
                assert [error.code() for error in failed if isinstance(error, grpc.aio.AioRpcError)] == [
                    StatusCode.DEADLINE_EXCEEDED
                ] * 2
                assert time.monotonic() - began < 3
            # Reading goes on meanwhile, and finds a connection.
            async with asyncio.timeout(10):
                while not await found(items, item.id):  # noqa: ASYNC110
                    await asyncio.sleep(0.05)

        async with asyncio.timeout(10):
            while not await written(items, item.id):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        assert (await items.GetItem(pb.GetItemRequest(id=item.id))).name == "held"


async def found(items: "Stub", item_id: str) -> bool:
    return await ok(items.GetItem(pb.GetItemRequest(id=item_id), timeout=1))


async def written(items: "Stub", item_id: str) -> bool:
    return await ok(items.UpdateItem(pb.UpdateItemRequest(id=item_id, quantity=7), timeout=1))


async def ok(call: Any) -> bool:
    """Says whether the call went well; UNAVAILABLE is all else that it may be."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        assert error.code() in {StatusCode.UNAVAILABLE, StatusCode.DEADLINE_EXCEEDED}
        return False
    return True


async def test_a_database_without_room_says_so_and_serves_what_it_has(engine: AsyncEngine, kind: str) -> None:
    repository = SqlItemRepository(engine)
    item = await repository.add(Addition(an_item("")))
    await fill_up(engine, kind)
    try:
        with pytest.raises(ExternalServiceError, match="has no room left"):
            for _ in range(2_000):
                await repository.add(Addition(an_item("x" * 2_000)))

        assert await repository.get(item.id) == item
    finally:
        await make_room(engine, kind)
    assert await repository.add(Addition(an_item("")))
    while await ChangeLog(engine).place():
        pass


def an_item(description: str) -> Item:
    new = NewItem(name="Lamp", description=description, sku=new_id(), quantity=1, price=1)
    return new.become(new_id(), datetime(2026, 1, 2, tzinfo=UTC))


async def fill_up(engine: AsyncEngine, kind: str) -> None:
    async with engine.begin() as connection:
        if kind == "sqlite":
            pages = (await connection.execute(text("PRAGMA page_count"))).scalar_one()
            await connection.execute(text(f"PRAGMA max_page_count = {pages + 20}"))
            return
        await connection.execute(
            text("""CREATE FUNCTION no_room() RETURNS trigger LANGUAGE plpgsql AS $$
                BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = 'disk_full'; END $$""")
        )
        await connection.execute(
            text("CREATE TRIGGER no_room BEFORE INSERT ON item_changes EXECUTE FUNCTION no_room()")
        )


async def make_room(engine: AsyncEngine, kind: str) -> None:
    async with engine.begin() as connection:
        if kind == "sqlite":
            await connection.execute(text("PRAGMA max_page_count = 1073741823"))
            return
        await connection.execute(text("DROP TRIGGER no_room ON item_changes"))
        await connection.execute(text("DROP FUNCTION no_room"))


async def test_a_change_that_is_given_up_at_any_moment_keeps_no_lock(
    migrated_url: str, limits: Limits, clock: Any
) -> None:
    """Not even while somebody still has its error, and with it all that is in the frames of its traceback."""
    item = NewItem(name="Lamp", description="", sku="L-1", quantity=1, price=1.0).become(new_id(), clock())
    async with open_engine(migrated_url, replace(limits, statement_timeout=1)) as engine:
        repository = SqlItemRepository(engine)
        await repository.add(Addition(item))
        kept = []
        for number in range(100):
            call = asyncio.create_task(repository.update(ItemChange(id=item.id, quantity=number), clock()))
            await asyncio.sleep(number % 50 * 0.0002)
            call.cancel()
            kept += await asyncio.gather(call, return_exceptions=True)
            await repository.update(ItemChange(id=item.id, quantity=number + 1), clock())
        assert (await repository.get(item.id)).quantity == number + 1
    assert {type(each) for each in kept} <= {asyncio.CancelledError, Item}
