"""PostgreSQL goes away and comes back while the service runs."""

import asyncio
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import grpc
import pytest
from grpc import StatusCode
from pydantic import SecretStr
from sqlalchemy import column, func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from grpc_common.database.engine import Limits, open_engine
from grpc_common.errors import ExternalServiceError
from grpc_common.testing import in_process
from items.item import ItemChange, NewItem
from items.main import build
from items.migrate import MIGRATIONS
from items.repository import Addition
from items.settings import ItemsSettings
from items.sql import SqlItemRepository
from items.table import ITEMS
from localmesh.parts.postgres import Postgres
from meshwork.items.v1 import items_service_pb2 as pb
from meshwork.items.v1.items_service_pb2_grpc import ItemServiceStub

if TYPE_CHECKING:  # there is no such class at run time
    from meshwork.items.v1.items_service_pb2_grpc import ItemServiceAsyncStub as Stub

NOW = datetime(2026, 1, 2, tzinfo=UTC)


async def test_calls_fail_fast_and_go_on_after_the_restart(own_postgres: Postgres) -> None:
    async with own_postgres:
        url = await own_postgres.create_database("items")
        settings = ItemsSettings(database_url=SecretStr(url))
        async with build(settings) as application, in_process(application.register) as channel:
            items: Stub = ItemServiceStub(channel)
            item = await items.CreateItem(pb.CreateItemRequest(name="Lamp", sku="L-1"))
            await fill_the_pool(items, item.id)

            await own_postgres.stop()
            for call in (
                lambda: items.GetItem(pb.GetItemRequest(id=item.id)),
                lambda: items.CreateItem(pb.CreateItemRequest(name="Lamp", sku="L-2")),
                lambda: items.UpdateItem(pb.UpdateItemRequest(id=item.id, name="Lantern")),
                lambda: items.DeleteItem(pb.DeleteItemRequest(id=item.id)),
                lambda: items.SearchItems(pb.SearchItemsRequest()),
                lambda: items.ListItems(pb.ListItemsRequest()).read(),
                lambda: items.BatchCreateItems(iter([pb.CreateItemRequest(name="Lamp", sku="L-3")])),
                lambda: items.SyncItems(iter([pb.ItemSyncRequest(delete_id=item.id)])).read(),
                lambda: items.WatchItems(pb.WatchItemsRequest()).read(),
            ):
                began = time.monotonic()
                with pytest.raises(grpc.aio.AioRpcError) as failed:
                    await call()
                assert time.monotonic() - began < 5
                assert failed.value.code() is StatusCode.UNAVAILABLE
                assert failed.value.details() == "the database cannot be reached or does not answer in time"

            await own_postgres.start()
            await fill_the_pool(items, item.id)
            assert await items.GetItem(pb.GetItemRequest(id=item.id)) == item


async def test_a_restart_that_nobody_saw_costs_no_call(own_postgres: Postgres) -> None:
    async with own_postgres:
        url = await own_postgres.create_database("items")
        settings = ItemsSettings(database_url=SecretStr(url))
        async with build(settings) as application, in_process(application.register) as channel:
            items: Stub = ItemServiceStub(channel)
            item = await items.CreateItem(pb.CreateItemRequest(name="Lamp", sku="L-1"))
            await fill_the_pool(items, item.id)

            await own_postgres.stop()
            await own_postgres.start()

            await fill_the_pool(items, item.id)
            await items.DeleteItem(pb.DeleteItemRequest(id=item.id))


@pytest.mark.parametrize("end", ["pg_terminate_backend", "pg_cancel_backend"])
async def test_a_statement_that_the_server_ends_is_unavailable(
    own_postgres: Postgres, limits: Limits, end: str
) -> None:
    async with own_postgres:
        url = await own_postgres.create_database("items")
        await MIGRATIONS.upgrade(url)
        async with open_engine(url, limits) as engine, open_engine(url, limits) as other:
            item = NewItem(name="Lamp", description="", sku="L-1", quantity=0, price=0).become("1", NOW)
            await SqlItemRepository(engine).add(Addition(item))
            async with other.begin() as holder, other.connect() as watcher:
                await holder.execute(ITEMS.update().values(name="held"))
                waiting = asyncio.ensure_future(SqlItemRepository(engine).update(ItemChange(id="1", name="Other"), NOW))
                await end_the_statement_that_waits(watcher, end)

                with pytest.raises(ExternalServiceError):
                    await waiting

            assert (await SqlItemRepository(engine).get("1")).name == "held"


async def test_a_server_that_is_full_is_unavailable(own_postgres: Postgres, limits: Limits) -> None:
    async with own_postgres:
        url = await own_postgres.create_database("items")
        async with open_engine(url, limits) as engine:
            async with engine.begin() as connection:
                await connection.execute(text("ALTER DATABASE items CONNECTION LIMIT 1"))
            async with engine.connect():
                with pytest.raises(ExternalServiceError):
                    await SqlItemRepository(engine).get("1")


async def end_the_statement_that_waits(watcher: AsyncConnection, end: str) -> None:
    """Calls the function of PostgreSQL on the session that waits for a lock, as soon as there is one."""
    watcher = await watcher.execution_options(isolation_level="AUTOCOMMIT")  # a transaction would see no news
    query = select(getattr(func, end)(column("pid"))).select_from(text("pg_stat_activity"))
    async with asyncio.timeout(10):
        while not (await watcher.execute(query.where(text("wait_event_type = 'Lock'")))).all():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def fill_the_pool(items: "Stub", item_id: str) -> None:
    """Has all connections of the pool used, and all of them work."""
    await asyncio.gather(*(items.GetItem(pb.GetItemRequest(id=item_id)) for _ in range(30)))
