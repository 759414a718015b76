"""The requests of a call that streams them: written by hand, or taken from an iterator and, if need be, sent again."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Sequence
from contextlib import suppress
from typing import Any, Final, Protocol

from grpc import aio

from grpc_common.client.call import ClientCall
from grpc_common.outcome import is_cancelled

type Source = AsyncIterable[Any] | Iterable[Any]

_END: Final = object()
ENDED: Final = (aio.AioRpcError, aio.InternalError, asyncio.InvalidStateError)
"""What a write to a call that has ended may raise."""


class HalfClosedError(asyncio.InvalidStateError):
    """A write after `done_writing`."""


class Codec(Protocol):
    """What makes bytes of requests; both raise TypeError for what is no request of the method."""

    def encode(self, request: Any) -> bytes:
        """Return the bytes of a request."""

    def check_class(self, kind: type[Any]) -> None:
        """Look at its class alone."""


async def send(inner: Any, raw: bytes) -> None:
    """Write to a call that has its connection.

    `inner.write` would, when the call has just ended, put INTERNAL in the place of the status that is on its way.
    """
    if inner.done():
        raise asyncio.InvalidStateError("the call has ended")
    try:
        await inner._cython_call.send_serialized_message(raw)  # noqa: SLF001  # nothing public leaves the status alone
    except asyncio.CancelledError:
        inner.cancel()
        raise


class Requests:
    """Feeds the attempts of a call from one source.

    A sequence can be sent again; so can the beginning of an iterator as long as it fits into `buffer_bytes`. What is
    written by hand cannot: nobody knows what its writer has made of what it has read in between.
    """

    __slots__ = ("_buffer", "_call", "_closed", "_codec", "_connected", "_ended", "_inner", "_kept", "_over",
                 "_pulling", "_pump", "_repeats", "_room", "_sole_reply", "_source", "_turn", "failure")  # fmt: skip

    def __init__(self, call: ClientCall, source: Source | None, codec: Codec) -> None:
        self.failure: BaseException | None = None
        """What the source has raised; it ends the call, and its caller gets it."""
        self._call = call
        self._source: Any = source
        self._codec = codec
        self._over: asyncio.Future[None] | None = None
        self._inner: Any = None
        self._pump: asyncio.Task[None] | None = None
        self._pulling: asyncio.Task[None] | None = None
        self._kept: list[bytes] = []
        self._ended = False
        self._room = call.method.connection.calling.retry.buffer_bytes
        self._buffer = self._closed = self._connected = self._repeats = False
        self._turn = asyncio.Lock()
        """Of writers by hand: core takes one message at a time, and loses the others."""
        self._sole_reply = not call.method.plan.response_streaming
        """Whether the answer comes after all requests, so that none can be late before."""
        if source is None:
            call.repeatable = False
            call.unsent = True
        elif isinstance(source, Sequence):
            for kind in set(map(type, source)):
                codec.check_class(kind)
            self._source = tuple(source)
            self._repeats = call.method.plan.attempts > 1
        else:
            self._buffer = call.method.plan.attempts > 1
            if not isinstance(source, AsyncIterable):
                self._source = iter(source)
            elif self._buffer:
                self._source = aiter(source)

    def pump_into(self, inner: Any) -> "Pump":
        """Send everything to `inner`, an attempt that has just begun, from the first request on."""
        self._inner = inner
        if self._source is None:
            return Pump(None)
        self._pump = asyncio.create_task(self._send_all(inner), name="requests of a call")
        return Pump(self._pump)

    def close(self) -> None:
        """Stop; the call has ended."""
        if self._over is not None:
            self._over.cancel()
        for task in (self._pump, self._pulling):
            if task is not None:
                task.cancel()

    async def write(self, request: Any) -> None:
        """Send one request by hand. One that cannot be sent ends the call; one to a call that has ended raises why."""
        if self._source is not None:
            raise aio.UsageError("the call takes its requests from an iterator")
        call = self._call
        try:
            raw = self._codec.encode(request)
        except Exception as problem:
            call.give_up(problem)  # as a source that gives it does
            raise
        async with self._turn:
            if self._closed:
                raise HalfClosedError("nothing can be written after done_writing")
            call.unsent = False
            if not self._connected:
                await self._connect()
            await send(self._inner, raw)
            call.unsent = self._sole_reply
            call.method.metrics.sent += 1

    async def _connect(self) -> None:
        # A write to a call that ends before it has a connection would wait for ever.
        inner = self._inner
        if inner is None:
            raise asyncio.InvalidStateError("the call has ended")
        self._over = ended = asyncio.get_running_loop().create_future()
        inner.add_done_callback(lambda _: ended.cancel())
        connecting = asyncio.ensure_future(inner.wait_for_connection())
        try:
            await asyncio.wait((connecting, ended), return_when=asyncio.FIRST_COMPLETED)
        finally:
            connecting.cancel()
            with suppress(asyncio.CancelledError, aio.AioRpcError):
                await connecting
        if inner.done() or self._call.ended:
            raise asyncio.InvalidStateError("the call has ended")
        self._connected = True

    async def done_writing(self) -> None:
        """Say that there are no more. A call that has ended needs not be told."""
        if self._source is not None:
            raise aio.UsageError("the call takes its requests from an iterator")
        async with self._turn:
            self._closed = True
            self._call.unsent = False
            with suppress(*ENDED):
                if not self._connected:
                    await self._connect()
                await self._inner.done_writing()

    async def _send_all(self, inner: Any) -> None:
        call = self._call
        call.unsent, waits = False, True
        metrics = call.method.metrics
        messages = self._messages()
        try:
            await inner.wait_for_connection()
        except aio.AioRpcError:
            return  # the call has ended, and says by itself why
        while True:
            try:
                call.unsent = waits
                raw: Any = await anext(messages, _END)
                call.unsent = False
            except GeneratorExit:
                raise
            except BaseException as error:
                if isinstance(error, asyncio.CancelledError) and is_cancelled():
                    raise
                self.failure = error  # the source's own, whichever that is
                inner.cancel()
                if isinstance(error, KeyboardInterrupt | SystemExit):
                    raise
                return
            try:
                if raw is _END:
                    await inner.done_writing()
                    return
                await send(inner, raw)
            except ENDED:
                return
            except Exception as error:  # noqa: BLE001  # without the rest of its requests the call would just wait
                call.give_up(error)
                return
            metrics.sent += 1
            waits = self._sole_reply

    async def _messages(self) -> AsyncIterator[bytes]:
        encode = self._codec.encode
        if self._buffer:
            async for raw in self._buffered():
                yield raw
        elif isinstance(self._source, AsyncIterable):
            async for message in self._source:
                yield encode(message)
        elif self._repeats:
            # The same bytes each time, whatever their owner does to the messages, and each with the same request_id.
            kept = self._kept
            for at, message in enumerate(self._source):
                if at == len(kept):
                    kept.append(encode(message))
                yield kept[at]
        else:
            for message in self._source:
                yield encode(message)

    async def _buffered(self) -> AsyncIterator[bytes]:
        kept, at = self._kept, 0
        while True:
            while at < len(kept):
                yield kept[at]
                at += 1
            if self._ended:
                return
            if self._room < 0:
                kept.clear()  # too much to be sent again; from here on it only passes through
                at = 0
            if self._pulling is None:
                self._pulling = asyncio.create_task(self._pull(), name="next request of a call")
            # An attempt that fails must not break off the source in the midst of its work.
            await asyncio.shield(self._pulling)

    async def _pull(self) -> None:
        try:
            source = self._source
            message = await anext(source, _END) if isinstance(source, AsyncIterator) else next(source, _END)
            if message is _END:
                self._ended = True
                return
            raw = self._codec.encode(message)
            self._kept.append(raw)
            self._room -= len(raw)
            if self._room < 0:
                self._call.repeatable = False
        finally:
            self._pulling = None


class Pump:
    """The sending of the requests of one attempt."""

    __slots__ = ("_task",)

    def __init__(self, task: asyncio.Task[None] | None) -> None:
        self._task = task

    def cancel(self) -> None:
        """Stop it."""
        if self._task is not None:
            self._task.cancel()
