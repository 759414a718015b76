"""The two databases, each with a table of lamps."""

from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import count

import pytest
import pytest_asyncio
from sqlalchemy import delete
from sqlalchemy.ext.asyncio import AsyncEngine

from database.lamps import LAMPS, LAMPS_SOLD, METADATA
from grpc_common.database.engine import Limits, open_engine
from localmesh.parts.postgres import Postgres

type NewDatabase = Callable[[], Awaitable[str]]


@pytest.fixture(scope="session")
def limits() -> Limits:
    return Limits(connections=10, pool_timeout=5, connect_timeout=5, statement_timeout=5)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def postgres(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Postgres]:
    async with Postgres(tmp_path_factory.mktemp("postgres")) as server:
        yield server


@pytest.fixture(scope="session", params=["postgresql", "sqlite"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
def new_database(kind: str, postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> NewDatabase:
    """Makes an empty database and returns its url."""
    number = count()

    async def make() -> str:
        if kind == "postgresql":
            return await postgres.create_database(f"lamps_{next(number)}")
        return f"sqlite+aiosqlite:///{tmp_path_factory.mktemp('sqlite')}/lamps.db"

    return make


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
