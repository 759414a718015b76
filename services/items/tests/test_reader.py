"""Reads outside of transactions."""

import asyncio
import random
from dataclasses import replace

import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from items.engine import Limits, open_engine
from items.reader import Reader
from items.table import ITEMS, TOKEN_SECRETS


async def test_a_read_after_a_write_sees_it_and_leaves_transactions_as_they_are(engine: AsyncEngine) -> None:
    reader = Reader(engine)
    before = len(await reader.rows(select(TOKEN_SECRETS.c.number)))
    with pytest.raises(RuntimeError):
        async with engine.begin() as connection:
            await connection.execute(TOKEN_SECRETS.insert().values(number=1_000, secret=b"x"))
            await reader.rows(select(TOKEN_SECRETS.c.number))
            raise RuntimeError
    assert len(await reader.rows(select(TOKEN_SECRETS.c.number))) == before


@pytest.mark.parametrize("kind", ["postgresql"], scope="session")
async def test_a_read_begins_no_transaction(migrated_url: str, limits: Limits, kind: str) -> None:
    told: list[str] = []
    async with open_engine(migrated_url, replace(limits, connections=1)) as engine:
        async with engine.connect() as connection:
            raw = await connection.get_raw_connection()
            raw.driver_connection.add_query_logger(lambda record: told.append(record.query))  # type: ignore[union-attr]
        await Reader(engine).rows(select(1))
        assert not told  # what is prepared is not among them
        async with engine.begin() as connection:
            await connection.execute(select(1))
    assert [query.split()[0].strip(";") for query in told] == ["BEGIN", "COMMIT"]


async def test_a_call_that_is_given_up_at_any_moment_keeps_no_connection(migrated_url: str, limits: Limits) -> None:
    chance = random.Random(3)  # noqa: S311
    async with open_engine(migrated_url, replace(limits, connections=3)) as engine:
        reader = Reader(engine)
        for _ in range(300):
            reads = [asyncio.create_task(reader.rows(select(ITEMS.c.id))) for _ in range(4)]
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
