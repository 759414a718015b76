"""The two databases, each with two outboxes; a test with a table is done with both of these."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from outbox.letters import LETTERS, METADATA, STAMPS
from sqlalchemy import Table, delete
from sqlalchemy.ext.asyncio import AsyncEngine

from grpc_common.database.engine import Limits, open_engine
from localmesh.fixtures import NewDatabase, kind, new_database, postgres

__all__ = ["kind", "new_database", "postgres"]

LIMITS = Limits(connections=10, pool_timeout=5, connect_timeout=5, statement_timeout=5)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def url(new_database: NewDatabase) -> str:
    """The url of a database with the tables."""
    url = await new_database()
    async with open_engine(url, LIMITS) as engine, engine.begin() as connection:
        await connection.run_sync(METADATA.create_all)
    return url


@pytest_asyncio.fixture
async def engine(url: str) -> AsyncIterator[AsyncEngine]:
    """The database, without any event."""
    async with open_engine(url, LIMITS) as engine:
        async with engine.begin() as connection:
            for table in (LETTERS, STAMPS):
                await connection.execute(delete(table))
        yield engine


@pytest.fixture(params=[LETTERS, STAMPS], ids=["subject", "stamp_id"])
def table(request: pytest.FixtureRequest) -> Table:
    return request.param  # type: ignore[no-any-return]
