"""What is over is deleted in small steps, by several at once."""

import asyncio

import pytest
from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncEngine

from database.lamps import LAMPS
from grpc_common.database.deletion import delete_some
from grpc_common.database.engine import Limits, open_engine
from grpc_common.database.reader import Reader

OVER = LAMPS.c.watts < 50


async def fill(engine: AsyncEngine, over: int, others: int = 0) -> None:
    rows = [{"id": f"{number:03}", "watts": 40 if number < over else 60} for number in range(over + others)]
    async with engine.begin() as connection:
        await connection.execute(insert(LAMPS), rows)


async def delete(engine: AsyncEngine, limit: int) -> int:
    async with engine.begin() as connection:
        return await delete_some(connection, LAMPS, OVER, limit)


async def test_no_more_than_asked_and_nothing_else(engine: AsyncEngine) -> None:
    await fill(engine, 7, 3)

    assert [await delete(engine, 3) for _ in range(4)] == [3, 3, 1, 0]
    assert len(await Reader(engine).rows(select(LAMPS.c.id))) == 3


async def test_several_share_the_work(engine: AsyncEngine) -> None:
    await fill(engine, 60)

    deleted = await asyncio.gather(*(delete(engine, 10) for _ in range(6)))
    while count := await delete(engine, 10):
        deleted.append(count)

    assert sum(deleted) == 60
    assert max(deleted) <= 10


@pytest.mark.parametrize("kind", ["postgresql"], scope="session")
async def test_nobody_is_waited_for(engine: AsyncEngine, url: str, limits: Limits, kind: str) -> None:
    await fill(engine, 3)
    async with open_engine(url, limits) as other, other.begin() as holder:
        await holder.execute(update(LAMPS).where(LAMPS.c.id == "001").values(price=1))

        assert await delete(engine, 10) == 2

    assert await delete(engine, 10) == 1
