"""A Valkey for all tests, empty for each, and one that a test may kill; a user who publishes and one who follows."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from grpc_common import revocation_stream
from grpc_common.revocation_stream import KEY
from localmesh.parts.valkey import SUPERUSER, Valkey


def users() -> dict[str, object]:
    return {"users": ["auth", "items"], "readers": {KEY: ["items"]}, "writers": {KEY: ["auth"]}}


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have nobody give Valkey up because it, or this process, is held up for a while."""
    monkeypatch.setattr(revocation_stream, "TIMEOUT", 20.0)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def one_valkey(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Valkey]:
    async with Valkey(tmp_path_factory.mktemp("valkey"), **users()) as server:  # type: ignore[arg-type]
        yield server


@pytest_asyncio.fixture
async def valkey(one_valkey: Valkey, admin: Redis) -> Valkey:
    await admin.flushall()
    return one_valkey


@pytest_asyncio.fixture
async def admin(one_valkey: Valkey) -> AsyncIterator[Redis]:
    async with Redis.from_url(one_valkey.url(SUPERUSER)) as client:
        yield client


@pytest_asyncio.fixture
async def own_valkey(tmp_path: Path) -> AsyncIterator[Valkey]:
    async with Valkey(tmp_path / "valkey", **users()) as server:  # type: ignore[arg-type]
        yield server
