"""Opening a database that others use at the same time."""

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from grpc_common.database.engine import Limits, answers, open_engine
from grpc_common.database.reader import Reader
from grpc_common.errors import ExternalServiceError


async def test_a_new_sqlite_file_that_another_writes_to_opens_and_serves_when_it_is_free(
    tmp_path: Path, limits: Limits
) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path}/lamps.db"
    with closing(sqlite3.connect(tmp_path / "lamps.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        other.execute("CREATE TABLE seen (by_both INTEGER)")
        async with open_engine(url, replace(limits, statement_timeout=0.1)) as engine:
            other.execute("COMMIT")

            async with engine.begin() as connection:
                await connection.execute(text("INSERT INTO seen VALUES (1)"))

        assert other.execute("SELECT by_both FROM seen").fetchall() == [(1,)]


async def test_sqlite_readers_and_the_writer_do_not_wait_for_each_other(tmp_path: Path, limits: Limits) -> None:
    async with (
        open_engine(f"sqlite+aiosqlite:///{tmp_path}/lamps.db", limits) as engine,
        engine.connect() as connection,
    ):
        for pragma, value in {"journal_mode": "wal", "foreign_keys": 1}.items():
            assert (await connection.execute(text(f"PRAGMA {pragma}"))).scalar_one() == value


@pytest.mark.parametrize("kind", ["postgresql"], scope="session")
async def test_postgresql_shows_whose_connections_they_are(url: str, limits: Limits, kind: str) -> None:
    async with open_engine(url, limits, "lamps") as engine:
        shown = await Reader(engine).rows(text("SELECT current_setting('application_name')"))

    assert shown == [("lamps",)]


async def test_a_database_that_answers_does(engine: AsyncEngine) -> None:
    assert await answers(engine)


async def test_a_database_that_nobody_serves_is_named_without_what_is_secret(limits: Limits) -> None:
    url = "postgresql+asyncpg://lamps:hunter2@127.0.0.1:1/lamps?password=hunter2"

    with pytest.raises(ExternalServiceError) as failed:
        async with open_engine(url, limits):
            pass

    assert failed.value.message.startswith(
        "cannot connect to the database postgresql+asyncpg://lamps@127.0.0.1:1/lamps: "
    )
    assert "hunter2" not in failed.value.message
