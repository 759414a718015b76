"""A real OpenBao with a transit engine, and a clock."""

import asyncio
from collections.abc import AsyncIterator

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
    folder = tmp_path_factory.mktemp("openbao")
    server = OpenBao(folder / "data", folder / "openbao.log")
    server.prepare()
    await server.unit.start()
    try:
        root = await asyncio.to_thread(server.client)
        await asyncio.to_thread(root.sys.enable_secrets_engine, "transit")
        yield server
    finally:
        await server.stop()


@pytest.fixture
def vault(openbao: OpenBao) -> hvac.Client:
    """A client that may do everything."""
    return openbao.client()
