"""Fixtures for the tests of whatever keeps data: `from localmesh.fixtures import kind, new_database, postgres`."""

from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import count

import pytest
import pytest_asyncio

from localmesh.parts.postgres import Postgres

type NewDatabase = Callable[[], Awaitable[str]]


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def postgres(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Postgres]:
    """One PostgreSQL for all tests."""
    async with Postgres(tmp_path_factory.mktemp("postgres")) as server:
        yield server


@pytest.fixture(scope="session", params=["postgresql", "sqlite"])
def kind(request: pytest.FixtureRequest) -> str:
    """The kind of database: what asks for it, by itself or by `new_database`, is done with both."""
    return str(request.param)


@pytest.fixture(scope="session")
def new_database(kind: str, postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> NewDatabase:
    """Makes an empty database and returns its url."""
    number = count()

    async def make() -> str:
        if kind == "postgresql":
            return await postgres.create_database(f"test_{next(number)}")
        return f"sqlite+aiosqlite:///{tmp_path_factory.mktemp('sqlite')}/test.db"

    return make
