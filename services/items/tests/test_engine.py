"""Opening a database that others use at the same time."""

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from sqlalchemy import text

from items.engine import Limits, open_engine


async def test_a_new_sqlite_file_that_another_writes_to_opens_and_serves_when_it_is_free(
    tmp_path: Path, limits: Limits
) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path}/items.db"
    with closing(sqlite3.connect(tmp_path / "items.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        other.execute("CREATE TABLE seen (by_both INTEGER)")
        async with open_engine(url, replace(limits, statement_timeout=0.1)) as engine:
            other.execute("COMMIT")

            async with engine.begin() as connection:
                await connection.execute(text("INSERT INTO seen VALUES (1)"))

        assert other.execute("SELECT by_both FROM seen").fetchall() == [(1,)]


async def test_sqlite_readers_and_the_writer_do_not_wait_for_each_other(tmp_path: Path, limits: Limits) -> None:
    async with (
        open_engine(f"sqlite+aiosqlite:///{tmp_path}/items.db", limits) as engine,
        engine.connect() as connection,
    ):
        for pragma, value in {"journal_mode": "wal", "foreign_keys": 1}.items():
            assert (await connection.execute(text(f"PRAGMA {pragma}"))).scalar_one() == value
