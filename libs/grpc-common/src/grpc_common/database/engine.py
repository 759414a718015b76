"""Opens the database: PostgreSQL, or one SQLite file."""

import asyncio
import math
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from sqlalchemy import URL, Connection, event, make_url, select
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DisconnectionError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from grpc_common.database.reader import READING, Reader
from grpc_common.database.sqlite_connection import SqliteConnection
from grpc_common.database.sqlite_file import keep_private
from grpc_common.database.statements import interrupt_sqlite, log_slow, wait_for_lock
from grpc_common.errors import ExternalServiceError

LATER: Final = 1.0
"""Seconds that the server leaves to the driver."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How many connections there may be, and how long to wait, in seconds: for a free one, for a new one to open, for
    a statement to end. SQLite has one writer at a time; there the last is how long a writer waits for its turn.
    """

    connections: int
    pool_timeout: float
    connect_timeout: float
    statement_timeout: float
    slow_query: float = math.inf
    """From how many seconds on a statement is logged as slow."""


@asynccontextmanager
async def open_engine(url: str, limits: Limits, application: str = "") -> AsyncIterator[AsyncEngine]:
    """Yields the engine for a SQLAlchemy url, connected, and closes its connections at the end. PostgreSQL shows what
    `application` they belong to, in `pg_stat_activity` and in its log.

    Raises:
        ExternalServiceError: saying where no database could be reached, and why, without the password.
    """
    parsed = make_url(url)
    on_postgresql = parsed.get_backend_name() == "postgresql"
    engine = _postgresql(parsed, limits, application) if on_postgresql else _sqlite(parsed, limits)
    try:
        await _connect_once(engine)
        yield engine
    finally:
        await engine.dispose()


async def answers(engine: AsyncEngine) -> bool:
    """Says whether the database answers."""
    await Reader(engine).rows(select(1))
    return True


async def _connect_once(engine: AsyncEngine) -> None:
    try:
        if engine.url.get_backend_name() == "sqlite" and engine.url.database:
            keep_private(Path(engine.url.database))
        async with engine.connect():
            pass
    except (SQLAlchemyError, OSError) as error:
        reason = str(getattr(error, "orig", None) or error) or type(error).__name__
        raise ExternalServiceError(f"cannot connect to the database {_place(engine.url)}: {reason}") from error


def _place(url: URL) -> str:
    """Returns the url without what may be secret: its password and its query, which can hold one too."""
    place = URL.create(url.drivername, username=url.username, host=url.host, port=url.port, database=url.database)
    return place.render_as_string()


def _postgresql(url: URL, limits: Limits, application: str) -> AsyncEngine:
    engine = _create(
        url,
        limits,
        timeout=limits.connect_timeout,
        command_timeout=limits.statement_timeout,
        # The driver has the server cancel what takes longer, or whose call is over; the server sees to it also when we
        # are gone.
        server_settings={
            "application_name": application,
            "statement_timeout": str(math.ceil((limits.statement_timeout + LATER) * 1000)),
        },
    )
    event.listen(engine.sync_engine, "checkout", _replace_closed)
    return engine


def _sqlite(url: URL, limits: Limits) -> AsyncEngine:
    engine = _create(url, limits, timeout=limits.statement_timeout, async_creator_fn=SqliteConnection)
    event.listen(engine.sync_engine, "connect", _set_pragmas)
    event.listen(engine.sync_engine, "begin", partial(_begin_immediate, limits))
    event.listen(engine.sync_engine, "invalidate", _Abandoned())
    interrupt_sqlite(engine.sync_engine, limits.statement_timeout)
    return engine


def _create(url: URL, limits: Limits, **connect: Any) -> AsyncEngine:
    engine = create_async_engine(
        url,
        connect_args=connect,
        pool_size=limits.connections,
        max_overflow=0,
        pool_timeout=limits.pool_timeout,
        hide_parameters=True,  # what callers wrote stays out of tracebacks, and so out of the log
    )
    log_slow(engine.sync_engine, limits.slow_query)
    return engine


def _replace_closed(connection: Any, *_: object) -> None:
    """Has the pool replace a connection that ended while nobody used it: the server restarted, say."""
    if connection.driver_connection.is_closed():
        raise DisconnectionError


def _set_pragmas(connection: DBAPIConnection, *_: object) -> None:
    cursor = connection.cursor()
    with _unless_another_does():
        cursor.execute("PRAGMA journal_mode = WAL")  # readers and the writer do not wait for each other
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


class _Abandoned:
    """Rolls back on a connection that is given up, as that of a cancelled call is. To close it is not enough: SQLite
    keeps it, and its lock, for as long as anybody has a statement of it, and be that in the traceback of an error.
    """

    def __init__(self) -> None:
        self._under_way: set[asyncio.Task[None]] = set()

    def __call__(self, connection: Any, *_: object) -> None:
        # Begun at once, so that it stands before the closing in the queue of the driver's thread.
        loop = asyncio.get_running_loop()
        task = asyncio.Task(self._roll_back(connection.driver_connection), loop=loop, eager_start=True)
        if not task.done():
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)

    async def _roll_back(self, driver: Any) -> None:
        with suppress(sqlite3.Error, ValueError):  # it is closed already
            await driver.rollback()


@contextmanager
def _unless_another_does() -> Iterator[None]:
    """Two that switch a new file to WAL at once are not made to wait: one is refused, and has what the other made."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if error.sqlite_errorname != "SQLITE_BUSY":
            raise


def _begin_immediate(limits: Limits, connection: Connection) -> None:
    """Takes the write lock first: SQLite refuses a reader that turns writer midway instead of letting it wait."""
    if READING not in connection.get_execution_options():
        wait_for_lock(connection, limits.statement_timeout)
        connection.exec_driver_sql("BEGIN IMMEDIATE")
