"""A bound on work that whatever permits it may run out."""

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

from grpc_common.call import Call

WRITE_ENDS_WITHIN: Final = 1.0
"""Seconds; a client that does not read could hold a write up for ever."""


class Lease:
    """Stops the work of the block when its time is over or `end` is called, and then raises the error it was given.

    Enter and leave it in the task that does the work. An exception of the work itself is left alone, and so is a
    cancellation from elsewhere, even when it comes at the same moment. Work that swallows its cancellation and returns
    as if it were complete raises the error as well: half a stream must not look like a whole one.

    A reply of `call` that is being sent is sent to its end first, where the client reads: core takes no status while it
    sends a message, and the client would wait for ever.
    """

    __slots__ = ("_before", "_call", "_end_error", "_expiry", "_seconds", "_task", "_timer")

    def __init__(self, seconds: float, expiry: Callable[[], Exception], call: Call | None = None) -> None:
        self._seconds = seconds
        self._expiry = expiry
        self._call = call
        self._end_error: Exception | None = None

    def __enter__(self) -> Self:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a Lease is entered inside of a task")
        self._task = task
        self._before = task.cancelling()
        self._timer = asyncio.get_running_loop().call_later(self._seconds, self._expire)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._timer.cancel()
        if self._end_error is None:
            return
        self._forget()
        only_ours = self._task.uncancel() <= self._before
        if only_ours and (kind is None or issubclass(kind, asyncio.CancelledError)):
            raise self._end_error from None

    def end(self, error: Exception) -> None:
        """Stop the work now; only the first call counts."""
        if self._end_error is None:
            self._end_error = error
            self._timer.cancel()
            if self._call is not None and self._call.writing:
                self._call.after_write.append(self._cut)
                self._timer = asyncio.get_running_loop().call_later(WRITE_ENDS_WITHIN, self._cut)
            else:
                self._cut()

    def _cut(self) -> None:
        self._timer.cancel()
        self._forget()
        self._task.cancel()

    def _forget(self) -> None:
        if self._call is not None and self._cut in self._call.after_write:
            self._call.after_write.remove(self._cut)

    def _expire(self) -> None:
        self.end(self._expiry())
