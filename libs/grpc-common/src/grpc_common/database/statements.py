"""Watches over the statements of an engine: slow ones are logged, and none outlives the call it is for."""

import math
from collections.abc import Callable
from time import monotonic, perf_counter
from typing import Any, Final

import structlog
from sqlalchemy import Engine, event

from grpc_common.deadline import remaining

MAX_STATEMENT: Final = 2_000
"""Characters of a statement in a log line."""
OPERATIONS: Final = 10_000
"""SQLite looks at the time whenever it has done so many: a millisecond or less."""


def log_slow(engine: Engine, seconds: float) -> None:
    """Has every statement that takes so long logged, done or failed: its time and its text, never its parameters."""
    log = structlog.get_logger(component="database")

    def timed(method: str) -> Callable[..., bool]:
        def execute(cursor: Any, statement: str, *rest: Any) -> bool:
            outcome, began = "failed", perf_counter()
            try:
                getattr(engine.dialect, method)(cursor, statement, *rest)
                outcome = "done"
            finally:
                if (taken := perf_counter() - began) >= seconds:
                    shown = statement[:MAX_STATEMENT]
                    log.warning("slow query", duration_ms=round(taken * 1000, 3), statement=shown, outcome=outcome)
            return True

        return execute

    # Events of the dialect, because those of the engine cost each statement some 50 µs, most of it to prepare them.
    for method in ("do_execute", "do_executemany", "do_execute_no_params"):
        event.listen(engine, method, timed(method))


def interrupt_sqlite(engine: Engine, seconds: float) -> None:
    """Has SQLite end a statement after so many seconds, or when its call is over: it works in a thread, which nobody
    can cancel. PostgreSQL is told by the driver when a call is cancelled.
    """

    def connected(connection: Any, record: Any) -> None:
        def over() -> bool:
            return bool(monotonic() > record.info.get("deadline", math.inf))

        connection.run_async(lambda driver: driver.set_progress_handler(over, OPERATIONS))

    def began(connection: Any, *_: object) -> None:
        connection.info["deadline"] = monotonic() + (remaining(seconds) or 0)

    def ended(connection: Any, *_: object) -> None:
        connection.info["deadline"] = math.inf

    event.listen(engine, "connect", connected)
    event.listen(engine, "before_cursor_execute", began)
    event.listen(engine, "after_cursor_execute", ended)


def wait_for_lock(connection: Any, seconds: float) -> None:
    """Has SQLite wait for its lock no longer than that, and than the call has left."""
    milliseconds = math.ceil((remaining(seconds) or 0) * 1000)
    if connection.info.get("busy_timeout") != milliseconds:
        connection.exec_driver_sql(f"PRAGMA busy_timeout = {milliseconds}")
        connection.info["busy_timeout"] = milliseconds
