"""A connection to SQLite that ends however often, and by whomever, it is told to."""

import asyncio
import sqlite3
from functools import partial
from typing import Any, Final

import aiosqlite

ROWS_AT_ONCE: Final = 64
"""As aiosqlite reads them unless told otherwise."""


class SqliteConnection(aiosqlite.Connection):
    """aiosqlite's connection, where `stop` ends the thread once, and closes also what was opened for a call that was
    given up meanwhile.

    SQLAlchemy closes the connection of a cancelled call, and stops it when that is cancelled as well. In aiosqlite 0.22
    each of the two asks the thread to end and waits for its answer: who asks a thread that has ended waits for ever,
    and with it the event loop that cancels all its tasks at the end.
    """

    def __init__(self, database: str, **options: Any) -> None:
        super().__init__(partial(self._open, database, **options), ROWS_AT_ONCE)
        self._thread.daemon = True  # as SQLAlchemy does with a connection that it makes itself
        self._opened: sqlite3.Connection | None = None
        self._stopped = False
        self._end: asyncio.Future[Any] | None = None

    def stop(self) -> asyncio.Future[Any] | None:
        """Have the thread close the connection and end; return what is done when it has, if there is a loop."""
        if not self._stopped:
            self._stopped = True
            self._tx.put_nowait((None, self._close))
            self._end = super().stop()
        return self._end

    def _open(self, database: str, **options: Any) -> sqlite3.Connection:
        self._opened = sqlite3.connect(database, **options)
        return self._opened

    def _close(self) -> None:
        if self._opened is not None:
            self._opened.close()
