"""Reads with one statement, outside of transactions."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from sqlalchemy import Connection, Engine, Row
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.sql import Executable
from sqlalchemy.util import greenlet_spawn

READING: Final = "grpc_common_reading"
"""The option of connections that only read, for SQLite."""


class Reader:
    """Reads without BEGIN and ROLLBACK, which are round trips, and in one step to SQLAlchemy's side instead of one each
    to connect, to execute and to close: the two are a fifth of what a read of one row costs.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine.sync_engine.execution_options(**{READING: True})

    async def rows(self, statement: Executable, parameters: Mapping[str, Any] | None = None) -> Sequence[Row[Any]]:
        """Returns what the statement finds; raises what the driver raises."""
        return await greenlet_spawn(_rows, self._engine, statement, parameters or {})


def _rows(engine: Engine, statement: Executable, parameters: Mapping[str, Any]) -> Sequence[Row[Any]]:
    with engine.connect() as connection, _without_transaction(connection):
        return connection.execute(statement, parameters).all()


@contextmanager
def _without_transaction(connection: Connection) -> Iterator[None]:
    """Has PostgreSQL's driver begin none; SQLAlchemy's own option for that costs more than the attribute it sets."""
    if connection.dialect.name != "postgresql":
        # SQLite's driver begins none for a SELECT. Its AUTOCOMMIT is awaited, and a call that is given up at that
        # moment would leak its connection.
        yield
        return
    driver: Any = connection.connection.dbapi_connection
    driver.autocommit = True
    try:
        yield
    finally:
        driver.autocommit = False
