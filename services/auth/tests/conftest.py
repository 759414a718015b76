"""A real OpenBao with a transit engine, the two databases, migrated and empty, and a clock."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import hvac
import pytest
import pytest_asyncio
from emptying import empty
from oauth_server import OAuth, caller, serving
from sqlalchemy.ext.asyncio import AsyncEngine

from auth.migrate import MIGRATIONS
from grpc_common.database.engine import Limits, open_engine
from grpc_common.fixed_clock import FixedClock
from localmesh.fixtures import NewDatabase, kind, new_database, postgres
from localmesh.parts.openbao import OpenBao

__all__ = ["kind", "new_database", "postgres"]


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def openbao(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[OpenBao]:
    async with with_transit(tmp_path_factory.mktemp("openbao")) as server:
        yield server


@pytest_asyncio.fixture
async def own_openbao(tmp_path: Path) -> AsyncIterator[OpenBao]:
    """One that a test may stop, start again and seal."""
    async with with_transit(tmp_path) as server:
        yield server


@asynccontextmanager
async def with_transit(folder: Path) -> AsyncIterator[OpenBao]:
    async with OpenBao(folder / "data", folder / "openbao.log") as server:
        root = await asyncio.to_thread(server.client)
        await asyncio.to_thread(root.sys.enable_secrets_engine, "transit")
        yield server


@pytest.fixture
def vault(openbao: OpenBao) -> hvac.Client:
    """A client that may do everything."""
    return openbao.client()


@pytest.fixture(scope="session")
def limits() -> Limits:
    return Limits(connections=10, pool_timeout=5, connect_timeout=5, statement_timeout=5)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def migrated_url(new_database: NewDatabase) -> str:
    """The url of a database with the newest schema."""
    url = await new_database()
    await MIGRATIONS.upgrade(url)
    return url


@pytest_asyncio.fixture
async def engine(migrated_url: str, limits: Limits) -> AsyncIterator[AsyncEngine]:
    """The migrated database, with nobody in it."""
    async with open_engine(migrated_url, limits) as engine:
        await empty(engine)
        yield engine


@pytest_asyncio.fixture
async def oauth(tmp_path: Path) -> AsyncIterator[OAuth]:
    """OAuth's endpoints on a server of the test's own."""
    async with serving(tmp_path) as served:
        yield served


@pytest_asyncio.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    """A client of HTTP."""
    async with caller() as client:
        yield client
