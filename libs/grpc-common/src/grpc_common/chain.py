"""The chain of interceptors around every handler, compiled once per method."""

from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import replace
from typing import Any, ClassVar, Final

import grpc
from grpc import StatusCode
from grpc.aio import ServerInterceptor

from grpc_common.call import UNKNOWN, Call, Handler, Method, Run, asked_for, current_call
from grpc_common.calls import current_calls
from grpc_common.codec import drive, with_messages
from grpc_common.refused_messages import watch
from grpc_common.served import Served

type Continuation = Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]]

MAX_UNDECLARED: Final = 1024
"""How many methods without a descriptor a chain keeps compiled; a handler may answer to every name."""
MAX_NAMED: Final = 256
"""How many of those logs, metrics and traces call by their names: the first that come."""


class Program:
    """A method's chain, compiled; it runs whatever handler the method has for a call."""

    __slots__ = ("inside", "interceptors", "is_evident", "latest", "method", "run", "takes_stream")

    def __init__(
        self,
        method: Method,
        run: Run,
        interceptors: tuple["Interceptor", ...],
        inside: tuple["Interceptor", ...],
        *,
        takes_stream: bool,
    ) -> None:
        self.method: Final = method
        self.run: Final = run
        self.interceptors: Final = interceptors
        """All of them, outermost first."""
        self.inside: Final = inside
        """Those among them that a chain further in brought along."""
        self.takes_stream: Final = takes_stream
        self.latest: tuple[Handler, CompiledHandler] | None = None
        self.is_evident: Final = method.is_declared and Method.of(method.path, self.bound(None)) == method
        """Whether a chain further out finds `method` by itself, with an interceptor of another make between them."""

    def fits(self, handler: Handler, method: Method, inside: tuple["Interceptor", ...]) -> bool:
        """Say whether it can run `handler`."""
        return (
            self.inside is inside
            and self.takes_stream is bool(handler.request_streaming)
            and self.method.request_streaming is method.request_streaming
            and self.method.response_streaming is method.response_streaming
        )

    def bound(self, handler: Handler | None) -> "CompiledHandler":
        """Return it for calls that come to `handler`."""
        return CompiledHandler(self, handler)


class CompiledHandler(grpc.RpcMethodHandler):  # type: ignore[type-arg]  # generic only in its stub
    """A handler with its chain: bytes in, bytes out, so that nothing is parsed out of the interceptors' reach.

    To core it is one of streamed requests, always: then a call whose one request never comes is in our hands, too, and
    not only once it has come. `unary_unary` and `unary_stream` take the request of whoever has it already.
    """

    def __init__(self, program: Program, handler: Handler | None) -> None:
        self.program = program
        self.method = method = program.method
        self.interceptors = program.interceptors
        """What is around `handler`, outermost first."""
        self.handler = handler
        """The servicer's own; None where the server has no such method."""
        self.request_streaming = True
        self.response_streaming = method.response_streaming
        self.request_deserializer = None
        self.response_serializer = None
        self.unary_unary = self.unary_stream = self.stream_unary = self.stream_stream = None
        enter = _entry(method, program.run, Served(method, handler) if handler is not None else None)
        setattr(self, method.kind, enter)
        if not method.request_streaming:
            setattr(self, "stream_stream" if method.response_streaming else "stream_unary", enter)


def _entry(method: Method, run: Run, served: Served | None) -> Callable[[Any, Any], Awaitable[Any]]:
    async def enter(request: Any, context: Any) -> Any:
        call = current_call.get()
        if call is not None and call.context is context:  # a chain around us has begun this call
            call.served = served
            return await run(call, request)
        call = Call(method, context)
        call.served = served
        token = current_call.set(call)
        calls = current_calls.get()
        if calls is None:
            try:
                return await run(call, request)
            finally:
                current_call.reset(token)
        calls.running.add(call)
        try:
            return await run(call, request)
        finally:
            calls.running.discard(call)
            current_call.reset(token)

    return enter


class Interceptor(ServerInterceptor):
    """What a call gains on its way to the handler: inside a Chain, or alone on a plain `grpc.aio.server`."""

    sees_messages: ClassVar[bool] = False
    """Whether `wrap` needs parsed requests; the others see bytes and cost no parsing when they refuse a call."""

    def wrap(self, method: Method, call_next: Run) -> Run:
        """Return what is run in place of `call_next` for calls of `method`; asked once per method."""
        raise NotImplementedError

    def served_at(self, address: str, port: int | None) -> None:
        """Be told where the server listens, before it serves: a host and a port, or the path of a Unix socket."""

    async def intercept_service(
        self,
        continuation: Continuation,
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """Work as a chain of one."""
        try:
            chain: Chain = self._alone
        except AttributeError:
            chain = self._alone = Chain([self])
        return await chain.intercept_service(continuation, handler_call_details)

    _alone: "Chain"


class Chain(ServerInterceptor):
    """Interceptors in order, outermost first; a chain among them stands for its own.

    `replace`, `before` and `after` give another chain.
    """

    def __init__(self, interceptors: Iterable["Interceptor | Chain"]) -> None:
        self.interceptors: Final = tuple(_flat(interceptors))
        self._declared: dict[str, Program] = {}
        self._undeclared: dict[str, Program] = {}
        self._named: set[str] = set()
        watch()
        self._unknown = self._compile_unknown()

    def replace(self, kind: type[Interceptor], *interceptors: Interceptor) -> "Chain":
        """Return a chain with `interceptors` for the one of class `kind`; without any, that one is left out.

        A subclass counts as `kind`, too. Raises LookupError where the chain has none of it, or more than one.
        """
        at = self._place(kind)
        return Chain([*self.interceptors[:at], *interceptors, *self.interceptors[at + 1 :]])

    def before(self, kind: type[Interceptor], *interceptors: Interceptor) -> "Chain":
        """Return a chain with `interceptors` right around the one of class `kind`; raises as `replace` does."""
        at = self._place(kind)
        return Chain([*self.interceptors[:at], *interceptors, *self.interceptors[at:]])

    def after(self, kind: type[Interceptor], *interceptors: Interceptor) -> "Chain":
        """Return a chain with `interceptors` right inside of the one of class `kind`; raises as `replace` does."""
        at = self._place(kind) + 1
        return Chain([*self.interceptors[:at], *interceptors, *self.interceptors[at:]])

    def _place(self, kind: type[Interceptor]) -> int:
        places = [at for at, interceptor in enumerate(self.interceptors) if isinstance(interceptor, kind)]
        if len(places) == 1:
            return places[0]
        there = ", ".join(type(each).__name__ for each in self.interceptors) or "nothing"
        raise LookupError(f"the chain has {len(places)} of {kind.__name__}, which must be there once; it has {there}")

    def served_at(self, address: str, port: int | None) -> None:
        """Tell all interceptors where the server listens."""
        for interceptor in self.interceptors:
            interceptor.served_at(address, port)

    async def intercept_service(
        self,
        continuation: Continuation,
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """Return the compiled handler of the method asked for; what is raised further in ends the call inside of it."""
        asked = handler_call_details.method
        try:
            handler = await continuation(handler_call_details)
            program = self._declared.get(asked)
            if program is not None and program.is_evident and (latest := program.latest) and latest[0] is handler:
                return latest[1]  # so begin almost all calls
            return self._found(asked, handler)
        except Exception as error:  # noqa: BLE001  # core would tell the caller its text, and nobody else anything
            return self._failing(asked, error)

    def _found(self, asked: str, handler: Handler | None) -> CompiledHandler:
        if handler is None:
            asked_for.set(asked)
            _below.set((asked, self._unknown.method))
            return self._unknown
        # A chain further in knows its method already, and whether it is one at all.
        method = handler.method if isinstance(handler, CompiledHandler) else None
        if method is None and (below := _below.get()) is not None and below[0] == asked:
            method = below[1]  # and an interceptor of another make stands between
        path = asked if method is None else method.path
        program = self._declared.get(path) or self._undeclared.get(path)
        if program is not None and (latest := program.latest) is not None and latest[0] is handler:
            compiled = latest[1]
        else:
            compiled = self._compiled(path, handler, method, program)
        if not (compiled.program.is_evident or isinstance(handler, CompiledHandler)):
            _below.set((asked, compiled.method))
        return compiled

    def _failing(self, asked: str, error: Exception) -> CompiledHandler:
        async def fail(request: Any, context: Any) -> None:  # noqa: ARG001
            raise error

        method = Method.declared(asked)
        handler: Handler = getattr(grpc, f"{method.kind if method else 'stream_stream'}_rpc_method_handler")(fail)
        compiled = self._compiled(asked, handler, method, self._declared.get(asked) or self._undeclared.get(asked))
        _below.set((asked, compiled.method))
        return compiled

    def compile(self, handler: Handler, method: Method) -> CompiledHandler:
        """Return `handler` with the chain around it; any runtime that takes an RpcMethodHandler can run it."""
        if isinstance(handler, CompiledHandler):
            return self._program(handler, method).bound(handler.handler)
        return self._program(handler, method).bound(handler)

    def _compiled(self, path: str, handler: Handler, method: Method | None, program: Program | None) -> CompiledHandler:
        # An interceptor further in may make a handler for each call, and all are calls of the same method.
        if method is None:
            method = program.method if program is not None and program.method.describes(handler) else None
        method = method or Method.of(path, handler)
        inside, served = _parts(handler)
        if program is None or not program.fits(served or handler, method, inside):
            program = self._kept(path, handler, method)
        compiled = program.bound(served)
        program.latest = handler, compiled
        return compiled

    def _kept(self, path: str, handler: Handler, method: Method) -> Program:
        if method.is_declared or method.path == UNKNOWN:
            program = self._declared[path] = self._program(handler, method)
            return program
        if path not in self._named and method.is_named:
            if len(self._named) < MAX_NAMED:
                self._named.add(path)
            else:
                method = replace(method, is_named=False)
        program = self._program(handler, method)
        if path not in self._undeclared and len(self._undeclared) >= MAX_UNDECLARED:
            del self._undeclared[next(iter(self._undeclared))]
        self._undeclared[path] = program
        return program

    def _program(self, handler: Handler, method: Method) -> Program:
        inside, served = _parts(handler)
        # One chain of both, as if they had been given together: then one codec serves all that see messages.
        interceptors = (*self.interceptors, *inside)
        takes_stream = bool((served or handler).request_streaming)
        if served is None:
            run = _wrapped(interceptors, method, _refuse_unknown)
            return Program(method, run, interceptors, inside, takes_stream=True)
        first = next((at for at, each in enumerate(interceptors) if each.sees_messages), len(interceptors))
        outer, inner = interceptors[:first], interceptors[first:]
        run = with_messages(
            method,
            _wrapped(inner, method, drive(method)),
            passes=takes_stream and not method.request_streaming and not inner,
        )
        return Program(method, _wrapped(outer, method, run), interceptors, inside, takes_stream=takes_stream)

    def _compile_unknown(self) -> CompiledHandler:
        # Streams both ways: then core waits for no request that may never come. One for all names, so that names made
        # up by a caller fill neither the memory nor the metrics.
        method = Method(UNKNOWN, UNKNOWN, UNKNOWN, request_streaming=True, response_streaming=True)
        run = _wrapped(self.interceptors, method, _refuse_unknown)
        return Program(method, run, self.interceptors, (), takes_stream=True).bound(None)


# What a chain has found at the end of `intercept_service`, and of which name, for a chain further out.
_below: Final[ContextVar[tuple[str, Method] | None]] = ContextVar("_below", default=None)


def _parts(handler: Handler) -> tuple[tuple[Interceptor, ...], Handler | None]:
    """Return the interceptors that are around `handler` already, and the servicer's own."""
    return (handler.interceptors, handler.handler) if isinstance(handler, CompiledHandler) else ((), handler)


def _flat(interceptors: Iterable[Any]) -> Iterator[Interceptor]:
    for each in interceptors:
        if isinstance(each, Chain):
            yield from each.interceptors
        elif isinstance(each, Interceptor):
            yield each
        else:
            raise TypeError(
                f"a Chain takes grpc_common's interceptors; give {type(each).__name__} to the server, beside the Chain"
            )


def _wrapped(interceptors: Sequence[Interceptor], method: Method, run: Run) -> Run:
    for interceptor in reversed(interceptors):
        run = interceptor.wrap(method, run)
    return run


async def _refuse_unknown(call: Call, request: Any) -> None:  # noqa: ARG001
    await call.context.abort(StatusCode.UNIMPLEMENTED, "this server has no such method")
