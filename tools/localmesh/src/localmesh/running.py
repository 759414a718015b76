"""Runs the asynchronous part of a command so that a signal ends it in order, at any moment."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Coroutine
from typing import Any

import psutil

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(Exception):  # noqa: N818 - not an error
    """A signal ended the work, and everything it had started is gone."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(signal_number)
        self.exit_status = 128 + signal_number


def run[T](work: Coroutine[Any, Any, T]) -> T:
    """Returns what the work returns; raises `Stopped` when a signal came first. A second signal kills what is left."""
    received: list[int] = []

    async def supervised() -> T:
        task = asyncio.create_task(work)

        def on_signal(number: int) -> None:
            received.append(number)
            if len(received) == 1:
                task.cancel()
            else:
                kill_children()

        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            loop.add_signal_handler(number, on_signal, number)
        return await task

    try:
        return asyncio.run(supervised())
    except asyncio.CancelledError:
        if received:
            raise Stopped(received[0]) from None
        raise


def kill_children() -> None:
    """Kills the groups of our own children."""
    for child in psutil.Process().children():
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
