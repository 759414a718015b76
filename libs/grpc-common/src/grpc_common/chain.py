"""The chain of interceptors around every handler, compiled once per method."""

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, ClassVar, Final

import grpc
from grpc import StatusCode
from grpc.aio import ServerInterceptor

from grpc_common.call import UNKNOWN, Call, Handler, Method, Run, asked_for, current_call
from grpc_common.codec import drive, with_messages

type Continuation = Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]]

# Far above any server's number of methods; a generic handler that answers to every name must not fill the memory.
MAX_COMPILED: Final = 4096


class CompiledHandler(grpc.RpcMethodHandler):  # type: ignore[type-arg]  # generic only in its stub
    """A handler with its chain: bytes in, bytes out, so that nothing is parsed out of the interceptors' reach."""

    def __init__(
        self, method: Method, run: Run, interceptors: tuple["Interceptor", ...], handler: Handler | None
    ) -> None:
        self.method = method
        self.interceptors = interceptors
        """What is around `handler`, outermost first."""
        self.handler = handler
        """The servicer's own; None where the server has no such method."""
        self.request_streaming = method.request_streaming
        self.response_streaming = method.response_streaming
        self.request_deserializer = None
        self.response_serializer = None
        self.unary_unary = self.unary_stream = self.stream_unary = self.stream_stream = None
        setattr(self, method.kind, _entry(method, run))


def _entry(method: Method, run: Run) -> Callable[[Any, Any], Awaitable[Any]]:
    async def enter(request: Any, context: Any) -> Any:
        call = current_call.get()
        if call is not None and call.context is context:  # a chain around us has begun this call
            return await run(call, request)
        call = Call(method, context)
        token = current_call.set(call)
        try:
            return await run(call, request)
        finally:
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
    """Interceptors in order, outermost first; `replace`, `before` and `after` give another chain."""

    def __init__(self, interceptors: Iterable[Interceptor]) -> None:
        self.interceptors: Final = tuple(interceptors)
        self._compiled: dict[str, tuple[Handler, CompiledHandler]] = {}
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
        """Return the compiled handler of the method asked for."""
        handler = await continuation(handler_call_details)
        if handler is None:
            asked_for.set(handler_call_details.method)
            return self._unknown
        # A chain further in knows its method already, and whether it is one at all.
        inner = handler.method if isinstance(handler, CompiledHandler) else None
        path = handler_call_details.method if inner is None else inner.path
        known = self._compiled.get(path)
        # An interceptor further in may give another handler for another call.
        if known is not None and known[0] is handler:
            return known[1]
        compiled = self.compile(handler, inner or Method.of(path, handler))
        if known is not None or len(self._compiled) < MAX_COMPILED:
            self._compiled[path] = (handler, compiled)
        return compiled

    def compile(self, handler: Handler, method: Method) -> CompiledHandler:
        """Return `handler` with the chain around it; any runtime that takes an RpcMethodHandler can run it."""
        if isinstance(handler, CompiledHandler):
            # One chain of both, as if they had been given together: then one codec serves all that see messages.
            together = Chain([*self.interceptors, *handler.interceptors])
            return together._unknown if handler.handler is None else together.compile(handler.handler, method)
        inside = next((at for at, interceptor in enumerate(self.interceptors) if interceptor.sees_messages), None)
        outer = self.interceptors[:inside] if inside is not None else self.interceptors
        inner = self.interceptors[inside:] if inside is not None else ()
        run = self._wrap(inner, method, drive(handler))
        run = self._wrap(outer, method, with_messages(handler, method, run))
        return CompiledHandler(method, run, self.interceptors, handler)

    def _wrap(self, interceptors: Iterable[Interceptor], method: Method, run: Run) -> Run:
        for interceptor in reversed(tuple(interceptors)):
            run = interceptor.wrap(method, run)
        return run

    def _compile_unknown(self) -> CompiledHandler:
        # Streams both ways: then core waits for no request that may never come. One for all names, so that names made
        # up by a caller fill neither the memory nor the metrics.
        method = Method(UNKNOWN, UNKNOWN, UNKNOWN, request_streaming=True, response_streaming=True)
        run = self._wrap(self.interceptors, method, _refuse_unknown)
        return CompiledHandler(method, run, self.interceptors, None)


async def _refuse_unknown(call: Call, request: Any) -> None:  # noqa: ARG001
    await call.context.abort(StatusCode.UNIMPLEMENTED, "this server has no such method")
