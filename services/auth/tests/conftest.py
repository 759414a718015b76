"""A real OpenBao with a transit engine, and a clock."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import hvac
import pytest
import pytest_asyncio

from grpc_common.fixed_clock import FixedClock
from localmesh.parts.openbao import OpenBao


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
