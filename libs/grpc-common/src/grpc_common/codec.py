"""Parsing requests and serialising replies inside the chain, where their failures are errors like any other."""

import asyncio
import inspect
from collections.abc import Callable
from typing import Any, Final, Self

from grpc import StatusCode
from grpc.aio import EOF

from grpc_common.call import Call, Handler, Method, Run
from grpc_common.errors import ValidationError

# Core reports the end of the requests in the same way whether the client has finished or has gone, and cancels the task
# only a moment later. A handler that went on at once would take half a stream for the whole: without this pause two in
# three cut streams were taken so, with only the next turn of the loop to wait for still one in fifty.
CUT_IS_KNOWN: Final = 0.001
"""Seconds."""

type Parse = Callable[[bytes], Any]
type Serialize = Callable[[Any], bytes]


class UnserializableReplyError(Exception):
    """The handler's reply is not the message its method promises: a fault of the service."""


class StreamContext:
    """A servicer context whose `read` and `write` take messages over one that takes bytes, and which counts them."""

    __slots__ = ("_call", "_context", "_ended", "_parse", "_serialize")

    def __init__(self, call: Call, parse: Parse, serialize: Serialize) -> None:
        self._call = call
        self._context = call.context
        self._ended = False
        self._parse = parse
        self._serialize = serialize

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    async def read(self) -> Any:
        """Return the next request, or `grpc.aio.EOF`."""
        data = await self._context.read()
        if data is EOF:
            if not self._ended:
                self._ended = True
                await asyncio.sleep(CUT_IS_KNOWN)
            return EOF
        self._call.received += 1
        return self._parse(data)

    async def write(self, message: Any) -> None:
        """Send one reply."""
        call, data = self._call, self._serialize(message)
        call.writing += 1
        try:
            await self._context.write(data)
        except asyncio.CancelledError:
            call.write_cut = True
            raise
        finally:
            call.writing -= 1
            if call.after_write and not call.writing:
                for resume in tuple(call.after_write):
                    resume()
        call.sent += 1


class Requests:
    """The streamed requests of a call, in order."""

    __slots__ = ("_read",)

    def __init__(self, context: StreamContext) -> None:
        self._read = context.read

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        message = await self._read()
        if message is EOF:
            raise StopAsyncIteration
        return message


def drive(handler: Handler) -> Run:
    """Return the innermost Run: it calls the servicer, whatever the kind of RPC and the style of the handler."""
    behavior = _behavior(handler)
    if not handler.response_streaming:

        def reply(call: Call, request: Any) -> Any:
            return behavior(request, call.context)

        return reply

    async def write_replies(call: Call, request: Any) -> None:
        replies = behavior(request, call.context)
        if inspect.isawaitable(replies):  # a coroutine that writes to the context itself
            await replies
            return
        try:
            async for message in replies:
                await call.context.write(message)
        finally:
            # However the call ends, the handler's own `finally` and `async with` run now and not when it is collected.
            if (close := getattr(replies, "aclose", None)) is not None:
                await close()

    return write_replies


def with_messages(handler: Handler, method: Method, call_next: Run) -> Run:
    """Wrap `call_next`, which takes and gives messages, into a Run that takes and gives bytes."""
    parse = _parser(handler)
    serialize = _serializer(handler, method)
    if not (method.request_streaming or method.response_streaming):

        async def unary(call: Call, request: bytes) -> bytes:
            return _finished(call, await call_next(call, parse(request)), serialize)

        return unary

    async def streamed(call: Call, request: Any) -> bytes | None:
        context = StreamContext(call, parse, serialize)
        call.context = context
        reply = await call_next(call, Requests(context) if method.request_streaming else parse(request))
        return None if method.response_streaming else _finished(call, reply, serialize)

    return streamed


def _finished(call: Call, reply: Any, serialize: Serialize) -> bytes:
    # A handler that has set an error status need not reply, and core throws away what it does reply.
    if call.context.code() in _OK:
        return serialize(reply)
    return b""


_OK = frozenset({None, StatusCode.OK, 0})


def _parser(handler: Handler) -> Parse:
    deserializer = handler.request_deserializer
    if deserializer is None:
        return _unchanged

    def parse(data: bytes) -> Any:
        try:
            return deserializer(data)
        except Exception as error:
            raise ValidationError("the request does not parse as the message this method takes") from error

    return parse


def _serializer(handler: Handler, method: Method) -> Serialize:
    serializer = handler.response_serializer
    if serializer is None:
        return _unchanged

    def serialize(message: Any) -> bytes:
        try:
            return serializer(message)
        except Exception as error:
            raise UnserializableReplyError(
                f"{method.path} replied with {type(message).__name__}, which does not serialise as its response"
            ) from error

    return serialize


def _unchanged(data: Any) -> Any:
    return data


def _behavior(handler: Handler) -> Callable[[Any, Any], Any]:
    name = f"{_PART[bool(handler.request_streaming)]}_{_PART[bool(handler.response_streaming)]}"
    behavior: Callable[[Any, Any], Any] = getattr(handler, name)
    return behavior


_PART = {False: "unary", True: "stream"}
