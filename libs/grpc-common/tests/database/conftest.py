"""The two databases, each with a table of lamps."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from sqlalchemy import delete
from sqlalchemy.ext.asyncio import AsyncEngine

from database.lamps import LAMPS, LAMPS_SOLD, METADATA
from grpc_common.database.engine import Limits, open_engine
from localmesh.fixtures import NewDatabase, kind, new_database, postgres

__all__ = ["kind", "new_database", "postgres"]


@pytest.fixture(scope="session")
def limits() -> Limits:
    return Limits(connections=10, pool_timeout=5, connect_timeout=5, statement_timeout=5)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def url(new_database: NewDatabase, limits: Limits) -> str:
    """The url of a database with the tables."""
    url = await new_database()
    async with open_engine(url, limits) as engine, engine.begin() as connection:
        await connection.run_sync(METADATA.create_all)
    return url


@pytest_asyncio.fixture
async def engine(url: str, limits: Limits) -> AsyncIterator[AsyncEngine]:
    """The database, without any lamp."""
    async with open_engine(url, limits) as engine:
        async with engine.begin() as connection:
            for table in (LAMPS_SOLD, LAMPS):
                await connection.execute(delete(table))
        yield engine
