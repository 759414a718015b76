"""Who may read the file of a SQLite database."""

import asyncio
import os
import sqlite3
import stat
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import text
from structlog.testing import capture_logs

from grpc_common.database.engine import Limits, open_engine
from grpc_common.database.sqlite_file import keep_private
from grpc_common.errors import ExternalServiceError

INTRUDER = """
import sqlite3, sys

try:
    sqlite3.connect(sys.argv[1], timeout=0, isolation_level=None).execute("BEGIN IMMEDIATE")
except sqlite3.OperationalError as error:
    print(error.sqlite_errorname, end="")
"""


@pytest.fixture(autouse=True)
def usual_umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def test_only_its_owner_may_read_a_new_one_and_what_lies_beside_it(tmp_path: Path, limits: Limits) -> None:
    async with open_engine(f"sqlite+aiosqlite:///{tmp_path}/lamps.db", limits) as engine:
        async with engine.begin() as connection:
            await connection.execute(text("CREATE TABLE lamps (id INTEGER)"))
        modes = {end: mode_of(tmp_path / f"lamps.db{end}") for end in ("", "-wal", "-shm")}

    assert modes == {"": 0o600, "-wal": 0o600, "-shm": 0o600}


async def test_one_that_is_there_keeps_its_content_and_its_mode_and_is_told_about_once(
    tmp_path: Path, limits: Limits
) -> None:
    path = tmp_path / "lamps.db"
    with closing(sqlite3.connect(path)) as old:
        old.execute("CREATE TABLE lamps AS SELECT 7 AS id")
        old.commit()
    path.chmod(0o640)

    with capture_logs() as lines:
        for _ in range(2):
            async with open_engine(f"sqlite+aiosqlite:///{path}", limits) as engine, engine.connect() as connection:
                assert (await connection.execute(text("SELECT id FROM lamps"))).scalar_one() == 7

    assert [(line["log_level"], line["path"], line["mode"]) for line in lines] == [("warning", str(path), "0640")]
    assert mode_of(path) == 0o640


async def test_one_that_nobody_else_may_open_is_not_told_about(tmp_path: Path, limits: Limits) -> None:
    with capture_logs() as lines:
        for _ in range(2):
            async with open_engine(f"sqlite+aiosqlite:///{tmp_path}/lamps.db", limits):
                pass

    assert lines == []


def test_the_file_behind_a_link_is_made(tmp_path: Path) -> None:
    (tmp_path / "link.db").symlink_to(tmp_path / "lamps.db")

    keep_private(tmp_path / "link.db")

    assert mode_of(tmp_path / "lamps.db") == 0o600
    assert (tmp_path / "link.db").is_symlink()


def test_several_who_make_it_at_once_have_one_file(tmp_path: Path) -> None:
    for number in range(50):
        path = tmp_path / f"{number}.db"
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(keep_private, [path] * 8))
        assert mode_of(path) == 0o600

    assert len(list(tmp_path.iterdir())) == 50


async def test_the_lock_of_another_connection_of_this_process_stays(tmp_path: Path) -> None:
    path = tmp_path / "lamps.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        keep_private(path)

        intruder = await asyncio.create_subprocess_exec(
            sys.executable, "-c", INTRUDER, str(path), stdout=asyncio.subprocess.PIPE
        )
        said, _ = await intruder.communicate()

    assert said == b"SQLITE_BUSY"


async def test_where_it_cannot_be_made_the_place_is_told(tmp_path: Path, limits: Limits) -> None:
    with pytest.raises(ExternalServiceError, match=r"cannot connect to the database .*nowhere/lamps\.db"):
        async with open_engine(f"sqlite+aiosqlite:///{tmp_path}/nowhere/lamps.db", limits):
            pass
