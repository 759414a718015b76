"""Slow statements, and statements of calls that are over."""

import asyncio
from dataclasses import replace

import pytest
from sqlalchemy import bindparam, select, text
from sqlalchemy.ext.asyncio import AsyncEngine
from structlog.testing import capture_logs

from database.lamps import LAMPS
from grpc_common.database.engine import Limits, open_engine
from grpc_common.database.reader import Reader

ENDLESS = text("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n")


@pytest.mark.parametrize("slow_query", [0, 60])
async def test_a_slow_statement_is_logged_without_what_was_asked(url: str, limits: Limits, slow_query: float) -> None:
    async with open_engine(url, replace(limits, slow_query=slow_query)) as engine:
        with capture_logs() as lines:
            await Reader(engine).rows(select(LAMPS.c.id).where(LAMPS.c.id == bindparam("key")), {"key": "a secret id"})

    slow = [line for line in lines if line["event"] == "slow query" and "lamps" in line["statement"]]
    assert len(slow) == (0 if slow_query else 1)
    for line in slow:
        assert (line["log_level"], line["outcome"]) == ("warning", "done")
        assert line["duration_ms"] > 0
        assert line["statement"].startswith("SELECT lamps.id")
    assert "a secret id" not in str(lines)


async def test_a_statement_that_fails_late_is_logged(url: str, limits: Limits) -> None:
    impatient = replace(limits, statement_timeout=3, slow_query=1)
    async with open_engine(url, impatient) as engine:
        with capture_logs() as lines, pytest.raises(Exception):  # noqa: B017  # each driver has its own
            async with engine.connect() as connection:
                await connection.execute(ENDLESS)

    (slow,) = [line for line in lines if line["event"] == "slow query" and line["statement"] == ENDLESS.text]
    assert slow["outcome"] == "failed"
    assert 2_500 < slow["duration_ms"] < 30_000


@pytest.mark.parametrize("kind", ["postgresql"], scope="session")
async def test_postgresql_is_told_that_a_call_is_over(url: str, engine: AsyncEngine, limits: Limits, kind: str) -> None:
    """The statement ends in the server, not only in this process."""
    async with open_engine(url, replace(limits, statement_timeout=60)) as other:

        async def work() -> None:
            async with other.connect() as connection:
                await connection.execute(ENDLESS)

        task = asyncio.create_task(work())
        async with asyncio.timeout(20):
            while not await endless(engine):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
            task.cancel()
            while await endless(engine):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        await asyncio.gather(task, return_exceptions=True)


async def endless(engine: AsyncEngine) -> int:
    query = text("SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'WITH RECURSIVE n%'")
    async with engine.connect() as connection:
        return int((await connection.execute(query)).scalar_one())
