"""Lists of any length in little memory, also for a caller who reads slowly; ITEMS_TEST_LISTED says how long."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import psutil
import pytest
import pytest_asyncio
from sqlalchemy import insert

from grpc_common.database.engine import Limits, open_engine
from items import main
from items.migrate import MIGRATIONS
from items.table import ITEMS
from localmesh import child
from localmesh.parts.postgres import Postgres
from meshwork.items.v1 import items_service_pb2 as pb
from meshwork.items.v1.items_service_pb2_grpc import ItemServiceStub

if TYPE_CHECKING:  # there is no such class at run time
    from meshwork.items.v1.items_service_pb2_grpc import ItemServiceAsyncStub as Stub

LISTED = int(os.environ.get("ITEMS_TEST_LISTED", "50000"))
ALLOWED = 20 * 2**20
SETTLED = 5_000
"""Items after which everything has been used once."""


@pytest_asyncio.fixture
async def served(postgres: Postgres, limits: Limits, tmp_path: Path) -> AsyncIterator[tuple["Stub", psutil.Process]]:
    """The service as a process of its own, with many items."""
    url = await postgres.create_database("items_listed")
    await MIGRATIONS.upgrade(url)
    async with open_engine(url, limits) as engine, engine.begin() as connection:
        for start in range(0, LISTED, 1_000):
            await connection.execute(insert(ITEMS), [row(number) for number in range(start, start + 1_000)])
    settings = {"ITEMS_DATABASE_URL": url, "ITEMS_GRPC__PORT": "0", "ITEMS_METRICS_PORT": "0"}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        main.__name__,
        env=child.environment(**settings),
        cwd=tmp_path,
        stderr=asyncio.subprocess.PIPE,
        limit=2**20,
    )
    assert process.stderr is not None
    try:
        target = await serving_at(process.stderr)
        reading = asyncio.create_task(drain(process.stderr))
        async with grpc.aio.insecure_channel(target) as channel:
            yield ItemServiceStub(channel), psutil.Process(process.pid)
        reading.cancel()
    finally:
        process.terminate()
        await process.wait()


async def serving_at(log: asyncio.StreamReader) -> str:
    async with asyncio.timeout(30):
        while line := await log.readline():
            event = json.loads(line)
            if event["event"] == "serving":
                return str(event["target"])
    raise AssertionError("the service did not start")


async def drain(log: asyncio.StreamReader) -> None:
    while await log.readline():
        pass


def row(number: int) -> dict[str, Any]:
    at = datetime(2026, 1, 2, tzinfo=UTC) + timedelta(microseconds=number)
    texts = {"id": f"{number:036d}", "name": f"item {number}", "description": "x" * 200, "sku": f"S-{number}"}
    return {**texts, "quantity": 1, "price": 1, "is_active": True, "created_at": at, "updated_at": at, "version": 1}


@pytest.mark.timeout(300 + LISTED / 500)
async def test_a_long_list_takes_no_more_memory_than_a_short_one(served: tuple["Stub", psutil.Process]) -> None:
    """Neither for a caller who reads as fast as it can, nor for one whose pauses let the server run ahead."""
    for slow in (False, True):
        await read_all(*served, slow=slow)


async def read_all(items: "Stub", process: psutil.Process, *, slow: bool) -> None:
    call = items.ListItems(pb.ListItemsRequest())
    count, settled, most = 0, 0, 0
    async for item in call:
        assert item.id == f"{count:036d}"
        count += 1
        if count == SETTLED:
            settled = process.memory_info().rss
        elif count % 1_000 == 0:
            if slow:
                await asyncio.sleep(0.02)
            most = max(most, process.memory_info().rss)

    assert count == LISTED
    assert most - settled < ALLOWED
