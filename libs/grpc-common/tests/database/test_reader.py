"""Reads outside of transactions."""

import asyncio
import random
from dataclasses import replace

import pytest
from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncEngine

from database.lamps import LAMPS
from grpc_common.database.engine import Limits, open_engine
from grpc_common.database.reader import Reader


async def test_a_read_after_a_write_sees_it_and_leaves_transactions_as_they_are(engine: AsyncEngine) -> None:
    reader = Reader(engine)
    async with engine.begin() as connection:
        await connection.execute(insert(LAMPS).values(id="1"))
    with pytest.raises(RuntimeError):
        async with engine.begin() as connection:
            await connection.execute(insert(LAMPS).values(id="2"))
            await reader.rows(select(LAMPS.c.id))
            raise RuntimeError
    assert await reader.rows(select(LAMPS.c.id)) == [("1",)]


@pytest.mark.parametrize("kind", ["postgresql"], scope="session")
async def test_a_read_begins_no_transaction(url: str, limits: Limits, kind: str) -> None:
    told: list[str] = []
    async with open_engine(url, replace(limits, connections=1)) as engine:
        async with engine.connect() as connection:
            raw = await connection.get_raw_connection()
            raw.driver_connection.add_query_logger(lambda record: told.append(record.query))  # type: ignore[union-attr]
        await Reader(engine).rows(select(1))
        assert not told  # what is prepared is not among them
        async with engine.begin() as connection:
            await connection.execute(select(1))
    assert [query.split()[0].strip(";") for query in told] == ["BEGIN", "COMMIT"]


async def test_a_call_that_is_given_up_at_any_moment_keeps_no_connection(url: str, limits: Limits) -> None:
    chance = random.Random(3)  # noqa: S311
    async with open_engine(url, replace(limits, connections=3)) as engine:
        reader = Reader(engine)
        for _ in range(300):
            reads = [asyncio.create_task(reader.rows(select(LAMPS.c.id))) for _ in range(4)]
            await asyncio.sleep(chance.random() * 0.004)
            for read in reads:
                read.cancel()
                if chance.random() < 0.5:
                    await asyncio.sleep(0)
                    read.cancel()
            await asyncio.gather(*reads, return_exceptions=True)
        async with asyncio.timeout(10):
            while engine.pool.checkedout():  # type: ignore[attr-defined]  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            await asyncio.gather(*(reader.rows(select(1)) for _ in range(10)))
