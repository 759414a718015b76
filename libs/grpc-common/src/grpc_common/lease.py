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
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> Self:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a Lease is entered inside of a task")
        self._task = task
        self._before = task.cancelling()
        self._arm()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._disarm()
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
            self._disarm()
            if self._call is not None and self._call.writing:
                self._call.after_write.append(self._cut)
                self._timer = asyncio.get_running_loop().call_later(WRITE_ENDS_WITHIN, self._cut)
            else:
                self._cut()

    def _arm(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._seconds, self.expire)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _cut(self) -> None:
        self._disarm()
        self._forget()
        self._task.cancel()

    def _forget(self) -> None:
        if self._call is not None and self._cut in self._call.after_write:
            self._call.after_write.remove(self._cut)

    def expire(self) -> None:
        """Stop the work because its time is over."""
        self.end(self._expiry())


class Term:
    """Leases of one length: they end in the order they began, so one timer serves them all.

    A timer each costs more than all else a lease does, and almost none of them ever goes off.
    """

    def __init__(self, seconds: float, expiry: Callable[[], Exception]) -> None:
        self.seconds: Final = seconds
        self._expiry = expiry
        self._ends: dict[TermLease, float] = {}
        """When the leases of now end, in seconds of the loop's clock, the first to end first."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_armed = False

    def lease(self, call: Call | None = None) -> Lease:
        """Return a lease of this term."""
        return TermLease(self, self._expiry, call)

    def begin(self, lease: "TermLease") -> None:
        """Expire `lease` when the term is over."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:  # another's timers will never go off
            self._loop, self._is_armed = loop, False
            self._ends.clear()
        self._ends[lease] = loop.time() + self.seconds
        if not self._is_armed:
            self._is_armed = True
            loop.call_later(self.seconds, self._expire, loop)

    def forget(self, lease: "TermLease") -> None:
        """Leave `lease` alone from now on."""
        self._ends.pop(lease, None)

    def _expire(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        while self._ends:
            lease, end = next(iter(self._ends.items()))
            if end > now:
                loop.call_at(end, self._expire, loop)
                return
            del self._ends[lease]
            lease.expire()
        self._is_armed = False


class TermLease(Lease):
    """A lease of a term."""

    __slots__ = ("_term",)

    def __init__(self, term: Term, expiry: Callable[[], Exception], call: Call | None) -> None:
        super().__init__(term.seconds, expiry, call)
        self._term = term

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._end_error is None:
            self._term.forget(self)  # there is no more to do, as it is for almost all of them
        else:
            super().__exit__(kind, error, traceback)

    def _arm(self) -> None:
        self._term.begin(self)

    def _disarm(self) -> None:
        self._term.forget(self)
        super()._disarm()
