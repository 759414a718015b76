"""Calls with a stream of replies: opened with as many attempts as it takes, then read message by message."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any, Final, Self

from grpc import StatusCode, aio

from grpc_common.client.call import ClientCall
from grpc_common.client.remote_error import RemoteError
from grpc_common.client.requests import ENDED, HalfClosedError, Requests
from grpc_common.client.unary_reply import PendingCall, unreadable
from grpc_common.outcome import is_cancelled

END: Final = aio.EOF

_settling: Final[set[asyncio.Task[None]]] = set()


class Opening:
    """A stream up to its first message, and the way on from there."""

    __slots__ = ("call", "given_away", "iterator", "opened", "parse", "reading", "requests", "send", "task", "turn")

    def __init__(
        self,
        call: ClientCall,
        send: Callable[[ClientCall, float], Any],
        parse: Callable[[bytes], Any] | None,
        requests: Requests | None,
    ) -> None:
        self.call = call
        self.send = send
        self.parse = parse
        self.requests = requests
        self.iterator: Any = None
        self.opened = self.reading = False
        self.given_away = False
        """Whether the caller has seen something of the present attempt, so that no other can take its place."""
        self.task: asyncio.Task[Any] | None = None
        self.turn: Final = asyncio.Lock()
        """Of readers: each reply is one's alone."""
        if call.ended:
            return
        if call.method.plan.attempts > 1:
            self.task = asyncio.Task(self._open_alone(), loop=asyncio.get_running_loop(), eager_start=True)
            if call.problem is not None:  # nothing could be sent
                raise call.problem
        else:
            self._begin()
            call.inner.add_done_callback(self._unread)

    @property
    def is_opening(self) -> bool:
        """Whether another attempt may yet take the place of the present one."""
        return self.task is not None and not self.task.done()

    def _unread(self, inner: Any) -> None:
        # Whoever holds the stream may never ask how it ended, and the breaker must know.
        if self.call.ticket and not self.reading:
            _settling.add(task := asyncio.create_task(self._settle(inner), name="end of a stream"))
            task.add_done_callback(_settling.discard)

    async def _settle(self, inner: Any) -> None:
        status = await inner.code()
        # Replies may have come in time: until somebody reads them core has not seen the end.
        self.call.settle(StatusCode.CANCELLED if status is StatusCode.DEADLINE_EXCEEDED else status)

    def _begin(self) -> None:
        call = self.call
        call.inner = inner = self.send(call, call.begin_attempt())
        self.iterator = aiter(inner)
        if self.requests is not None:
            self.requests.pump_into(inner)

    async def _open_alone(self) -> Any:
        """Open the stream in a task of its own, which nobody may ever await."""
        try:
            return await self.open()
        except BaseException as problem:
            self._give_up(problem)
            if not isinstance(problem, Exception):
                raise
            return END

    async def open(self) -> Any:
        """Return the first message, or END with the call's end in the call."""
        call = self.call
        while True:
            if self.iterator is None:
                self._begin()
            try:
                raw = await anext(self.iterator, END)
            except aio.AioRpcError as rpc:
                failure = call.failed(rpc)
                if self.given_away:
                    return self._failed(failure)
                self._stop_requests()
                self.iterator = None
                if (error := await call.again(failure)) is not None:
                    return self._failed(error)
                continue
            except asyncio.CancelledError:
                if is_cancelled():
                    raise
                return self._cut()
            if raw is END:
                self.finish(StatusCode.OK)
            else:
                call.answered()
                call.method.metrics.received += 1
            return raw

    async def next(self) -> Any:
        """Return the next message, or END; raise what the call has failed with."""
        async with self.turn:
            return await self._next_of_all()

    async def _next_of_all(self) -> Any:
        call = self.call
        try:
            if not self.opened and not call.ended:
                self.reading = True
                raw = await (self.open() if self.task is None else self.task)
                self.opened = True
            elif not self.opened and self.task is not None and self.task.done() and not self.task.cancelled():
                self.opened = True  # it ended before anybody asked
                raw = self.task.result()
            elif call.ended:
                raw = END
            else:
                raw = await self._next()
        except BaseException as problem:
            self._give_up(problem)
            raise
        if raw is END:
            self.raise_failure()
            return END
        if self.parse is None:
            return raw
        try:
            return self.parse(raw)
        except Exception as problem:  # the parser's, whichever that is
            error = unreadable(call, problem)
            call.inner.cancel()
            self._failed(error)
            raise error from problem

    async def _next(self) -> Any:
        call = self.call
        try:
            raw = await anext(self.iterator, END)
        except aio.AioRpcError as rpc:
            return self._failed(call.failed(rpc))
        except asyncio.CancelledError:
            if is_cancelled():
                raise
            return self._cut()
        if raw is END:
            self.finish(StatusCode.OK)
        else:
            call.method.metrics.received += 1
        return raw

    def _give_up(self, problem: BaseException) -> None:
        """End the call with what is no answer: our caller's cancellation, or what our own side has raised."""
        if isinstance(problem, Exception):
            self.call.give_up(problem)
            self._stop_requests()
        else:
            self.cancel()

    def raise_failure(self) -> None:
        """Raise what the call has ended with, unless that is OK."""
        if self.requests is not None and self.requests.failure is not None:
            raise self.requests.failure
        call = self.call
        if call.problem is not None:
            raise call.problem
        if call.error is not None:
            raise call.error
        if call.status is StatusCode.CANCELLED:
            raise asyncio.CancelledError

    def _cut(self) -> Any:
        """End after a cancellation that was not this task's: of the source, a call of `cancel`, a closed channel."""
        call = self.call
        if not call.ended:
            if self.requests is not None and self.requests.failure is not None:
                self.finish(StatusCode.CANCELLED)
            else:
                return self._failed(call.closed())
        return END

    def _failed(self, error: RemoteError) -> Any:
        self.call.fail(error)
        self._stop_requests()
        return END

    def finish(self, status: StatusCode) -> None:
        """End the call, and whatever works for it."""
        self.call.end(status)
        self._stop_requests()

    def _stop_requests(self) -> None:
        if self.requests is not None:
            self.requests.close()

    def cancel(self) -> bool:
        """Cancel the call with all its attempts; say whether that was in time."""
        call = self.call
        if call.ended:
            return False
        self.finish(StatusCode.CANCELLED)
        if self.task is not None:
            self.task.cancel()
        if call.inner is not None:
            call.inner.cancel()
        return True


class ReplyStream(PendingCall):
    """A call with a stream of replies: iterate, or `read` until `grpc.aio.EOF`.

    A stream that nobody holds any more is cancelled: `break` in the loop over `stub.ListItems(request)` ends the call.
    Whoever keeps the stream in a variable cancels it, or opens it in `async with`.
    """

    __slots__ = ("_loop", "_opening", "_thread")

    def __init__(self, opening: Opening, loop: asyncio.AbstractEventLoop) -> None:
        self._call = opening.call
        self._opening = opening
        self._loop = loop
        self._thread = threading.get_ident()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        reply = await self._opening.next()
        if reply is END:
            raise StopAsyncIteration
        return reply

    async def read(self) -> Any:
        """Return the next reply, or `grpc.aio.EOF` after the last."""
        return await self._opening.next()

    async def write(self, request: Any) -> None:
        """Send another request; what the call has failed with is raised when it has ended."""
        requests = self._requests()
        self._opening.raise_failure()
        try:
            await requests.write(request)
        except HalfClosedError:
            raise
        except ENDED:
            await self._settled()
            self._opening.raise_failure()
            raise

    async def done_writing(self) -> None:
        """Say that there are no more requests. A call that has ended needs not be told."""
        await self._requests().done_writing()

    def _requests(self) -> Requests:
        requests = self._opening.requests
        if requests is None:
            raise aio.UsageError("the call has a single request")
        return requests

    async def initial_metadata(self) -> aio.Metadata:
        """Return what the server sent first; from then on the call is not tried again."""
        if self._call.inner is None:
            return aio.Metadata()
        self._opening.given_away = True
        found: aio.Metadata = await self._call.inner.initial_metadata()
        return found

    async def wait_for_connection(self) -> None:
        """Wait until the server has begun to answer; raise what the call failed with."""
        await self.initial_metadata()
        self._opening.raise_failure()

    def cancel(self) -> bool:
        """Cancel the call; say whether that was in time."""
        return self._opening.cancel()

    def cancelled(self) -> bool:
        """Say whether it was cancelled here."""
        return self._call.status is StatusCode.CANCELLED and self._call.error is None

    def done(self) -> bool:
        """Say whether the call has ended; of one that core has ended, replies may still have to be read."""
        return self._call.ended or (not self._opening.is_opening and self._call.inner.done())

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        """Have `callback` called with this call when it has ended, with its last attempt."""
        if self.done():
            callback(self)
        elif (task := self._opening.task) is not None and self._opening.is_opening:
            task.add_done_callback(lambda _: self.add_done_callback(callback))
        else:
            self._call.inner.add_done_callback(lambda _: callback(self))

    async def _settled(self) -> None:
        opening, call = self._opening, self._call
        if call.ended:
            return
        if opening.task is not None and not opening.task.done():
            await asyncio.wait((opening.task,))
        if opening.call.ended or call.inner is None:
            return
        # Nobody has read to the end: the status is core's alone so far.
        status = await call.inner.code()
        if call.ended:
            return
        if status is StatusCode.OK:
            opening.finish(status)
            return
        inner = call.inner
        initial, trailers = await inner.initial_metadata(), await inner.trailing_metadata()
        rpc = aio.AioRpcError(status, initial, trailers, await inner.details(), await inner.debug_error_string())
        opening.call.fail(call.failed(rpc))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *failure: object) -> None:
        self.cancel()

    def __del__(self) -> None:
        opening = getattr(self, "_opening", None)
        if opening is None or opening.call.ended:
            return
        if threading.get_ident() == self._thread:
            opening.cancel()
        elif not self._loop.is_closed():
            self._loop.call_soon_threadsafe(opening.cancel)
