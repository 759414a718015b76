"""The two databases, migrated and empty, and the service on either of them."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
from sqlalchemy import delete
from sqlalchemy.ext.asyncio import AsyncEngine

from grpc_common.database.engine import Limits, open_engine
from items.cache import cached
from items.cache_store import CacheLimits
from items.migrate import MIGRATIONS
from items.repository import ItemRepository
from items.sql import SqlItemRepository
from items.table import CHANGES, ITEMS, OUTBOX, REQUESTS
from localmesh.fixtures import NewDatabase, kind, new_database, postgres
from localmesh.parts.postgres import Postgres
from localmesh.parts.valkey import Valkey
from serving import serving

if TYPE_CHECKING:  # there is no such class at run time
    from meshwork.items.v1.items_service_pb2_grpc import ItemServiceAsyncStub


__all__ = ["kind", "new_database", "postgres"]


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def move(self, seconds: float) -> datetime:
        self.now += timedelta(seconds=seconds)
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="session")
def limits() -> Limits:
    return Limits(connections=10, pool_timeout=5, connect_timeout=5, statement_timeout=20)


@pytest_asyncio.fixture
async def own_postgres(tmp_path: Path) -> AsyncIterator[Postgres]:
    """A PostgreSQL that a test may stop and start again: its data and its port stay."""
    server = Postgres(tmp_path, keep=True)
    try:
        yield server
    finally:
        server.discard()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def migrated_url(new_database: NewDatabase) -> str:
    """The url of a database with the newest schema."""
    url = await new_database()
    await MIGRATIONS.upgrade(url)
    return url


@pytest_asyncio.fixture
async def engine(migrated_url: str, limits: Limits) -> AsyncIterator[AsyncEngine]:
    """The migrated database, without any item."""
    async with open_engine(migrated_url, limits) as engine:
        async with engine.begin() as connection:
            for table in (ITEMS, CHANGES, REQUESTS, OUTBOX):
                await connection.execute(delete(table))
        yield engine


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def valkey(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Valkey]:
    async with Valkey(tmp_path_factory.mktemp("valkey"), users=["items"]) as server:
        yield server


@pytest.fixture
def cache_limits() -> CacheLimits:
    return CacheLimits(connections=10, ttl=30, timeout=5)


@pytest_asyncio.fixture(params=["alone", "cached"])
async def repository(
    request: pytest.FixtureRequest, engine: AsyncEngine, valkey: Valkey, cache_limits: CacheLimits
) -> AsyncIterator[ItemRepository]:
    """The repository, and the one with a cache in front of it."""
    url = valkey.url("items") if request.param == "cached" else ""
    async with cached(SqlItemRepository(engine), url, cache_limits) as (repository, _):
        yield repository


@pytest_asyncio.fixture
async def items(engine: AsyncEngine, clock: Clock) -> AsyncIterator["ItemServiceAsyncStub"]:
    async with serving(engine, clock) as stub:
        yield stub
