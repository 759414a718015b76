"""The end of a process that does not end by itself."""

import asyncio
import os
import threading
from collections.abc import Iterator
from typing import Final

import structlog

from grpc_common.log_sink import LogSink

TOLD: Final = 20
"""Tasks and threads that are named in the log, of each at most."""


class LastResort:
    """Ends the process when it has not ended in time: a task that takes no cancellation, a thread that does not return
    or a connection that does not close would keep it for ever, with its place in the mesh and its port.
    """

    def __init__(self, sink: LogSink, status: int) -> None:
        self._sink = sink
        self._status = status
        self._timer: threading.Timer | None = None

    def end_within(self, seconds: float, loop: asyncio.AbstractEventLoop) -> None:
        """From now on the process has so many seconds, or those it was given before."""
        if self._timer is None:
            self._timer = threading.Timer(seconds, self._end, (seconds, loop))
            self._timer.daemon = True
            self._timer.start()

    def _end(self, seconds: float, loop: asyncio.AbstractEventLoop) -> None:
        log = structlog.get_logger(component="run")
        log.error("did not end in time", after_seconds=seconds, tasks=[*_tasks(loop)], threads=[*_threads()])
        self._sink.flush()
        os._exit(self._status)


def _tasks(loop: asyncio.AbstractEventLoop) -> Iterator[str]:
    for task in list(asyncio.all_tasks(loop))[:TOLD]:
        name = getattr(task.get_coro(), "__qualname__", "")
        yield f"{task.get_name()} {name}".strip()


def _threads() -> Iterator[str]:
    for thread in threading.enumerate()[:TOLD]:
        if not thread.daemon and thread is not threading.main_thread():
            yield thread.name
