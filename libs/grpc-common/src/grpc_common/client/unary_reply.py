"""Calls with a single reply: the attempts, and what the caller holds."""

import asyncio
import threading
from collections.abc import Callable, Generator
from typing import Any, Final

import grpc
from grpc import StatusCode, aio

from grpc_common.client.call import ClientCall
from grpc_common.client.hedge import Race
from grpc_common.client.remote_error import RemoteError, RemoteFailure, make_error
from grpc_common.client.requests import ENDED, HalfClosedError, Requests
from grpc_common.outcome import is_cancelled

FAILED: Final = object()


class Unary:
    """The attempts of a call with a single reply."""

    __slots__ = ("call", "parse", "requests", "send")

    def __init__(
        self,
        call: ClientCall,
        send: Callable[[ClientCall, float], Any],
        parse: Callable[[bytes], Any] | None,
        requests: Requests | None = None,
    ) -> None:
        self.call = call
        self.send = send
        self.parse = parse
        self.requests = requests

    async def run(self) -> Any:
        """Return the reply, or FAILED with the error in the call: an exception nobody awaits would be complained of."""
        call = self.call
        if call.ended:
            return FAILED
        try:
            return self._parsed(await self._attempts())
        except asyncio.CancelledError:
            if is_cancelled():
                call.end(StatusCode.CANCELLED)
                raise
            if self.requests is not None and self.requests.failure is not None:
                call.end(StatusCode.CANCELLED)
            else:
                call.fail(call.closed())
        except RemoteError as error:
            call.fail(error)
        except BaseException as problem:  # of the sending, whatever that may be
            call.give_up(problem)
            if not isinstance(problem, Exception):
                raise
        finally:
            if self.requests is not None:
                self.requests.close()
        return FAILED

    def _parsed(self, raw: bytes) -> Any:
        call = self.call
        try:
            reply = raw if self.parse is None else self.parse(raw)
        except Exception as error:  # noqa: BLE001  # the parser's, whichever that is
            call.fail(unreadable(call, error))
            return FAILED
        call.end(StatusCode.OK)
        call.method.metrics.received += 1
        if call.method.plan.hedged:
            call.method.latencies.record(call.method.connection.calling.clock.now() - call.started)
        return reply

    async def _attempts(self) -> bytes:
        call = self.call
        hedged = call.method.plan.hedged
        while True:
            try:
                if hedged:
                    return await Race(call, self.send).run()
                raw: bytes = await self._attempt()
            except aio.AioRpcError as rpc:
                failure = call.failed(rpc)
            else:
                return raw
            if (error := await call.again(failure)) is not None:
                raise error

    async def _attempt(self) -> bytes:
        call, requests = self.call, self.requests
        call.inner = inner = self.send(call, call.begin_attempt())
        if requests is None:
            raw: bytes = await inner
            return raw
        pump = requests.pump_into(inner)
        try:
            raw = await inner
        finally:
            pump.cancel()
        return raw


def unreadable(call: ClientCall, problem: Exception) -> RemoteError:
    """Return the error of a reply that does not parse."""
    error = make_error(
        RemoteFailure,
        StatusCode.INTERNAL,
        f"the reply cannot be read ({type(problem).__name__})",
        method=call.method.plan.path,
        reason="UNREADABLE_REPLY",
    )
    error.__cause__ = problem
    return error


class PendingCall:
    """What every kind of call has in common for whoever made it, with the names `grpc.aio.Call` has."""

    __slots__ = ("__weakref__", "_call")
    _call: ClientCall

    async def code(self) -> StatusCode:
        """Wait for the end and return the status."""
        await self._settled()
        return self._call.status or StatusCode.UNKNOWN

    async def details(self) -> str:
        """Wait for the end and return the text that came with the status, "" where there is none."""
        await self._settled()
        return self._call.error.details() if self._call.error is not None else ""

    async def debug_error_string(self) -> str:
        """Wait for the end and return what core says of it."""
        await self._settled()
        return self._call.error.debug_error_string() if self._call.error is not None else ""

    async def trailing_metadata(self) -> aio.Metadata:
        """Wait for the end and return the trailing metadata of the last attempt."""
        await self._settled()
        call = self._call
        if call.error is not None:
            return call.error.trailing_metadata()
        if call.inner is None or not call.inner.done():
            return aio.Metadata()
        found: aio.Metadata = await call.inner.trailing_metadata()
        return found

    async def initial_metadata(self) -> aio.Metadata:
        """Return the initial metadata of the last attempt."""
        await self._settled()
        inner = self._call.inner
        return aio.Metadata() if inner is None else await inner.initial_metadata()

    def time_remaining(self) -> float | None:
        """Return the seconds until the deadline."""
        return self._call.left

    async def _settled(self) -> None:
        raise NotImplementedError


class UnaryReplyCall(PendingCall):
    """A call with a single reply: `await` it. It runs whether or not anybody waits."""

    __slots__ = ("_task", "_unary")

    def __init__(self, unary: Unary, loop: asyncio.AbstractEventLoop) -> None:
        self._call = unary.call
        self._unary = unary
        self._task = asyncio.Task(unary.run(), loop=loop, eager_start=True)
        if self._call.problem is not None:  # nothing could be sent
            raise self._call.problem

    def __await__(self) -> Generator[Any, None, Any]:
        reply = yield from self._task.__await__()
        if reply is FAILED:
            self._raise()
        return reply

    def _raise(self) -> None:
        requests = self._unary.requests
        if requests is not None and requests.failure is not None:
            raise requests.failure
        if self._call.problem is not None:
            raise self._call.problem
        if self._call.error is not None:
            raise self._call.error
        raise AssertionError("a call has failed without an error")

    def cancel(self) -> bool:
        """Cancel the call with all its attempts; say whether that was in time."""
        return self._task.cancel()

    def cancelled(self) -> bool:
        """Say whether it was."""
        return self._task.cancelled()

    def done(self) -> bool:
        """Say whether the call has ended."""
        return self._task.done()

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        """Have `callback` called with this call when it has ended."""
        self._task.add_done_callback(lambda _: callback(self))

    async def wait_for_connection(self) -> None:
        """Wait until the call has been answered, and raise what it failed with."""
        await self._settled()
        if self._task.done() and not self._task.cancelled() and self._task.result() is FAILED:
            self._raise()

    async def _settled(self) -> None:
        if not self._task.done():
            await asyncio.wait((self._task,))
        # A task that was cancelled before its first step has not said so.
        self._call.end(StatusCode.CANCELLED)

    async def write(self, request: Any) -> None:
        """Send another request of a stream."""
        requests = self._unary.requests
        if requests is None:
            raise grpc.aio.UsageError("the call has a single request")
        try:
            await requests.write(request)
        except HalfClosedError:
            raise
        except ENDED:
            await self._settled()
            if self._call.error is not None:
                raise self._call.error from None
            if self._call.problem is not None:
                raise self._call.problem from None
            raise

    async def done_writing(self) -> None:
        """Say that there are no more requests."""
        if self._unary.requests is not None:
            await self._unary.requests.done_writing()


class WrittenCall(UnaryReplyCall):
    """A call whose requests are written by hand. When nobody holds it any more it is cancelled: nobody can end it."""

    __slots__ = ("_loop", "_thread")

    def __init__(self, unary: Unary, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._thread = threading.get_ident()
        super().__init__(unary, loop)

    def __del__(self) -> None:
        task = getattr(self, "_task", None)
        if task is None or task.done():
            return
        if threading.get_ident() == self._thread:
            task.cancel()
        elif not self._loop.is_closed():
            self._loop.call_soon_threadsafe(task.cancel)
