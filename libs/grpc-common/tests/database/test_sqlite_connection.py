"""A connection to SQLite whose call is given up, and given up again while it is being closed."""

import asyncio
import gc
import threading
import warnings
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from grpc_common.database.engine import Limits, open_engine
from grpc_common.database.sqlite_connection import SqliteConnection

SOON = 0.05


class Call:
    """One whose statement keeps the thread of its connection busy until it is let go."""

    def __init__(self, url: str, limits: Limits) -> None:
        self._url, self._limits = url, limits
        self._loop = asyncio.get_running_loop()
        self._under_way = asyncio.Event()
        self._let_go = threading.Event()

    async def given_up(self) -> asyncio.Task[None]:
        """Let the call be cancelled while its statement is under way: its connection is being closed, which takes until
        soon after this returns.
        """
        call = asyncio.create_task(self._ask())
        await self._under_way.wait()
        call.cancel()
        await asyncio.sleep(SOON)
        assert not call.done()
        self._loop.call_later(SOON, self._let_go.set)
        return call

    async def _ask(self) -> None:
        async with open_engine(self._url, self._limits) as engine, engine.connect() as connection:
            driver: Any = (await connection.get_raw_connection()).driver_connection
            await driver.create_function("hold", 0, self._hold)
            await connection.execute(text("SELECT hold()"))

    def _hold(self) -> None:
        self._loop.call_soon_threadsafe(self._under_way.set)
        self._let_go.wait(30)


async def given_up(url: str, limits: Limits) -> asyncio.Task[None]:
    return await Call(url, limits).given_up()


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite+aiosqlite:///{tmp_path}/lamps.db"


@pytest.mark.timeout(60)
def test_a_loop_ends_while_the_connection_of_a_cancelled_call_is_closed(url: str, limits: Limits) -> None:
    for _ in range(10):  # in what order its tasks are cancelled is left to chance
        asyncio.run(given_up(url, limits))


async def test_a_call_that_is_cancelled_twice_leaves_neither_a_task_nor_a_thread(url: str, limits: Limits) -> None:
    threads = threading.active_count()
    call = await given_up(url, limits)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call

    async with asyncio.timeout(30):  # how a thread ends tells nobody
        while asyncio.all_tasks() != {asyncio.current_task()} or threading.active_count() > threads:  # noqa: ASYNC110
            await asyncio.sleep(SOON)


async def test_what_was_opened_for_nobody_is_closed(tmp_path: Path) -> None:
    threads = threading.active_count()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", ResourceWarning)
        for number in range(50):
            opening = asyncio.ensure_future(SqliteConnection(str(tmp_path / "lamps.db")))
            await asyncio.sleep(number / 100_000)
            opening.cancel()
            await asyncio.gather(opening, return_exceptions=True)
            if not opening.cancelled():
                await opening.result().close()
        while threading.active_count() > threads:  # noqa: ASYNC110
            await asyncio.sleep(SOON)
        gc.collect()

    assert [str(each.message) for each in told] == []


async def test_it_may_be_told_to_end_again_and_again(tmp_path: Path) -> None:
    connection = await SqliteConnection(str(tmp_path / "lamps.db"))

    ends = [connection.stop() for _ in range(3)]
    await asyncio.wait_for(asyncio.gather(*filter(None, ends)), 30)
    await asyncio.wait_for(connection.close(), 30)

    with pytest.raises(ValueError, match="no active connection"):
        await connection.execute("SELECT 1")
