"""Parsing requests and serialising replies inside the chain, where their failures are errors like any other."""

import asyncio
import inspect
from collections.abc import Generator
from types import CoroutineType, coroutine
from typing import Any, Final, Self

from grpc import StatusCode
from grpc._cython import cygrpc  # type: ignore[attr-defined]  # it has no stub
from grpc.aio import EOF

from grpc_common.call import Call, Method, Run
from grpc_common.handlers import HandlerError
from grpc_common.lease import Term
from grpc_common.reply_context import status_of
from grpc_common.served import Served
from grpc_common.unread import MUCH, told, watch_over_the_end

MESSAGE_COMES_WITHIN: Final = 30.0
"""Seconds; how long a call without any deadline is waited for whose one request has not come."""

# What core gives to handlers of streamed requests; whatever else comes was put around it by an interceptor.
_FROM_CORE: Final[type[Any]] = cygrpc._MessageReceiver  # noqa: SLF001


class StreamContext:
    """A servicer context whose `read` and `write` take messages over one that takes bytes, and which counts them."""

    __slots__ = (
        "_call",
        "_context",
        "_counts",
        "_ended",
        "_given_up",
        "_loop",
        "_parse",
        "_read",
        "_rest",
        "_serialize",
        "_turn",
        "_waiting",
        "_write",
    )

    def __init__(self, call: Call, served: Served) -> None:
        self._call = call
        self._context = context = call.context
        # Found once, and not for each message through all that is around core's own.
        self._read, self._write = context.read, context.write
        # A chain around us has one, too, where an interceptor of another make stands between.
        self._counts = not call.counted
        self._ended = False
        self._parse, self._serialize = served.parse, served.serialize
        self._loop = asyncio.get_running_loop()
        self._turn = asyncio.Lock()
        self._given_up = False
        self._waiting: asyncio.Future[None] | None = None
        self._rest: asyncio.Task[None] | None = None
        call.counted = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    async def read(self) -> Any:
        """Return the next request, or `grpc.aio.EOF`."""
        data = await self._read()
        if data is EOF:
            if not self._ended:
                await whole(self._call, self._context)
                self._ended = True
            return EOF
        if self._counts:
            self._call.received += 1
        return self._parse(data)

    async def send_initial_metadata(self, initial_metadata: Any) -> None:
        """Send metadata before any message, which would take it along."""
        async with self._turn:
            await self._context.send_initial_metadata(initial_metadata)

    async def write(self, message: Any) -> None:
        """Send one reply, after those that other tasks of the handler are sending: core takes one at a time."""
        call = self._call
        if not call.method.response_streaming:
            raise HandlerError(
                f"the handler of {call.method.path} wrote a reply; its method has one, which is returned"
            )
        data = self._serialize(message)
        if not self._counts:
            await self._write(data)
            return
        await self._turn.acquire()
        call.writing += 1
        call.sending = self
        await self._begun(self._write(data))

    @coroutine
    def _begun(self, writing: Any) -> Generator[Any]:
        # What core has begun to send it sends to its end, whoever stops waiting, and takes nothing else until then. So
        # its coroutine is moved on by hand, and what it waits for is out of reach of who cancels this task. A task of
        # its own for each message would do the same, and cost more than all else of a message.
        if not hasattr(writing, "send"):
            writing = writing.__await__()
        waits = None
        try:
            while True:
                waits = writing.send(None)
                if waits is None:
                    yield
                else:
                    waits._asyncio_future_blocking = False  # noqa: SLF001  # it is this task that would wait for it
                    self._waiting = shield = self._loop.create_future()
                    waits.add_done_callback(self._go)
                    yield from shield
        except StopIteration:
            self._has_sent(1)
        except GeneratorExit:  # the loop has ended, or is about to
            writing.close()
            raise
        except asyncio.CancelledError:
            self._call.write_cut = True
            if self._given_up or waits is None or waits.cancelled():
                writing.close()
                self._has_sent(0)
            else:
                self._rest = self._loop.create_task(self._go_on(writing, waits))
            raise
        except BaseException:
            self._has_sent(0)
            raise

    async def _go_on(self, writing: Any, waits: "asyncio.Future[Any]") -> None:
        sent = 0
        try:
            await asyncio.wait((waits,))
            await _rest_of(writing)
            sent = 1
        except Exception:  # noqa: BLE001, S110  # nobody waits for it any more
            pass
        finally:
            writing.close()
            self._rest = None
            self._has_sent(sent)

    def _go(self, _: "asyncio.Future[Any]") -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    def _has_sent(self, replies: int) -> None:
        call = self._call
        call.sent += replies
        self._turn.release()
        call.writing -= 1
        call.sending = self._waiting = None
        if call.after_write:
            for resume in tuple(call.after_write):
                resume()

    def give_up(self) -> None:
        """Let go of what is being sent, for a call that was cut off: core does not tell of its end any more."""
        self._given_up = True
        waiting = self._rest or self._waiting
        if waiting is not None:
            waiting.cancel()

    async def settle(self) -> None:
        """Wait for what is being sent: core takes no status before that."""
        if self._turn.locked():
            async with self._turn:
                pass

    async def abort(self, code: Any, details: Any = "", trailing_metadata: Any = ()) -> None:
        """End the call with a status, also where its caller takes none of what is being sent."""

        async def abort() -> None:
            async with self._turn:
                await self._context.abort(code, details, trailing_metadata)

        if not self._turn.locked():
            await abort()
        elif self._call.cut is None:
            await told(self._call, abort(), status_of(code))
        raise asyncio.CancelledError  # it was cut off before

    async def abort_with_status(self, status: Any) -> None:
        """End the call with `status`, a `grpc.Status`."""
        await self.abort(status.code, status.details, status.trailing_metadata)


@coroutine
def _rest_of(writing: Any) -> Generator[Any]:
    yield from getattr(writing, "__await__", lambda: writing)()


async def whole(call: Call, context: Any) -> None:
    """Return if the requests of `call` have ended as the caller meant it; where they were cut, be cancelled.

    Core reports the end in the same way whether the caller has finished, has gone or has sent what core refuses; of the
    latter two it tells by another way, which may take longer. What is asked of core now is answered after that, always.
    """
    if call.refused and call.cut is None:
        call.cut = StatusCode.RESOURCE_EXHAUSTED  # for whatever reason it was, core does not tell
    await context.read()
    if call.refused:  # it was a message that the handler waited for elsewhere, as a client
        call.refused, call.cut = False, None


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


class Once:
    """The one request of a call for a handler that reads it: both its requests and its context."""

    __slots__ = ("_context", "_request")

    def __init__(self, context: Any, request: Any) -> None:
        self._context = context
        self._request = request

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    async def read(self) -> Any:
        """Return the request, and then `grpc.aio.EOF`."""
        request, self._request = self._request, EOF
        return request

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        request = await self.read()
        if request is EOF:
            raise StopAsyncIteration
        return request


def drive(method: Method) -> Run:
    """Return the innermost Run: it calls the servicer, whatever the kind of RPC and the style of the handler."""

    def reply(call: Call, request: Any) -> Any:
        replies = _begin(call, request)
        if type(replies) is not CoroutineType and not inspect.isawaitable(replies):
            raise _wrong(call, replies)
        return replies

    async def write_replies(call: Call, request: Any) -> None:
        replies = _begin(call, request)
        if inspect.isawaitable(replies):  # a coroutine that writes to the context itself
            if (returned := await replies) is not None:
                raise _wrong(call, returned)
            return
        if not hasattr(replies, "__aiter__"):
            raise _wrong(call, replies)
        write = call.context.write
        try:
            async for message in replies:
                await write(message)
        finally:
            # However the call ends, the handler's own `finally` and `async with` run now and not when it is collected.
            if (close := getattr(replies, "aclose", None)) is not None:
                await close()

    return write_replies if method.response_streaming else reply


def _begin(call: Call, request: Any) -> Any:
    served: Any = call.served
    if served.takes_stream and not call.method.request_streaming and not _is_stream(request):
        request = call.context = Once(call.context, request)
    return served.behavior(request, call.context)


def _wrong(call: Call, found: Any) -> HandlerError:
    method = call.method
    how = "gives its replies by `yield` in an `async def`, or writes them to the context and returns nothing"
    expected = how if method.response_streaming else "is an `async def` that returns its reply"
    return HandlerError(f"the handler of {method.path} gave {type(found).__name__}; a right one {expected}")


def _is_stream(request: Any) -> bool:
    return hasattr(request, "__anext__")


def with_messages(method: Method, call_next: Run, *, passes: bool) -> Run:
    """Wrap `call_next`, which takes and gives messages, into a Run that takes and gives bytes.

    The one request of a call is read here, inside of what limits the call. With `passes` it is not: where nobody in
    this chain looks at it, and the handler is one that reads it by itself.
    """
    term = Term(MESSAGE_COMES_WITHIN, lambda: TimeoutError("the request did not come"))
    if not (method.request_streaming or method.response_streaming or passes):

        async def unary(call: Call, request: Any) -> bytes:
            served: Any = call.served
            if type(request) is _FROM_CORE and call.deadline is not None:
                # What `_only` does, with a coroutine less: so come almost all calls.
                call.waits = asyncio.current_task()
                try:
                    data = await call.core.read()
                except asyncio.CancelledError:
                    _refuse(call)
                    raise
                finally:
                    call.waits = None
                if data is EOF:
                    await _miss(call, call.context)
            else:
                data = request if type(request) is bytes else await _only(call, request, call.context, term)
            reply = await call_next(call, served.parse(data))
            if call.core.code() not in _OK:
                return b""
            if len(sent := served.serialize(reply)) > MUCH:
                watch_over_the_end(call)
            return sent  # type: ignore[no-any-return]

        return unary

    async def streamed(call: Call, request: Any) -> bytes | None:
        served: Any = call.served
        context = call.context
        if method.request_streaming or method.response_streaming:
            call.context = replies = StreamContext(call, served)
        if method.request_streaming:
            request = Requests(call.context)
        elif not passes:
            data = request if type(request) is bytes else await _only(call, request, context, term)
            request = served.parse(data)
        reply = await call_next(call, request)
        if method.response_streaming:
            await replies.settle()
            if call.sent:
                watch_over_the_end(call)
            return None
        # A handler that has set an error status need not reply, and core throws away what it does reply.
        if call.core.code() not in _OK:
            return b""
        if len(sent := served.serialize(reply)) > MUCH:
            watch_over_the_end(call)
        return sent  # type: ignore[no-any-return]

    return streamed


_OK = frozenset({None, StatusCode.OK, 0})


async def _only(call: Call, requests: Any, context: Any, term: Term) -> bytes:
    """Read the one request of a call; end the call with UNIMPLEMENTED where the caller finishes without one."""
    call.waits = asyncio.current_task()
    try:
        if call.deadline is None:
            with term.lease():
                data: Any = await anext(requests, EOF)
        elif type(requests) is _FROM_CORE:
            data = await call.core.read()  # what the iterator would do, with two coroutines less
        else:
            data = await anext(requests, EOF)
    except asyncio.CancelledError:
        _refuse(call)
        raise
    finally:
        call.waits = None
    if data is EOF:
        await _miss(call, context)
    return data  # type: ignore[no-any-return]


def _refuse(call: Call) -> None:
    """Raise the reason why the wait for the request was cancelled, where that is to be told to the caller."""
    if call.refusal is not None and call.waits is not None and call.waits.uncancel() == 0:
        raise call.refusal from None


async def _miss(call: Call, context: Any) -> None:
    await whole(call, context)
    # gRPC's document of status codes, "request cardinality violation".
    await context.abort(StatusCode.UNIMPLEMENTED, "this method takes one request, and none came")
