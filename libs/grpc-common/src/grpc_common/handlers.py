"""Whether a handler is one that this library can serve: known from how it is written, before any call."""

import inspect
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

import grpc

from grpc_common.call import Handler
from grpc_common.policy import declared_method

# What grpc's generator writes into the servicer's class for a method that nobody has written, as a plain function.
NOT_IMPLEMENTED: Final = "Method not implemented!"


class HandlerError(TypeError):
    """A handler that cannot work; the message names the method, what was found, and what to write."""


def check_handlers(handlers: Mapping[str, Handler]) -> None:
    """Look at handlers by their methods' paths, "/package.Service/Name". Raise HandlerError for the first bad one."""
    for path, handler in handlers.items():
        if problem := problem_of(path, handler):
            raise HandlerError(problem)


def handlers_of(generic: grpc.GenericRpcHandler) -> Mapping[str, Handler]:
    """Return the handlers that grpc's own `method_handlers_generic_handler` holds; of others nothing is known."""
    return getattr(generic, "_method_handlers", {})


def problem_of(path: str, handler: Handler) -> str:
    """Say what is wrong with the handler of the method at `path`; "" where nothing is."""
    kinds = _kind(handler.request_streaming, handler.response_streaming)
    declared = declared_method(path)
    if declared is not None and (right := _kind(declared.client_streaming, declared.server_streaming)) != kinds:
        return f"{path} is registered as {kinds}, and its proto makes it {right}"
    behavior = getattr(handler, kinds)
    name = getattr(behavior, "__qualname__", type(behavior).__name__)
    function = _function(behavior)
    if inspect.isasyncgenfunction(function):
        if handler.response_streaming:
            return ""
        return f"{path} is served by {name}, which yields, and the method has one reply: return it, and yield nothing"
    if inspect.iscoroutinefunction(function) or _is_left_out(function) or name.endswith("<lambda>"):
        return ""  # a lambda may pass the call on to one that is right: what it gives is looked at in each call
    ways = "return its reply", "give its replies by `yield`, or write them to the context"
    how = ways[bool(handler.response_streaming)]
    return (
        f"{path} is served by {name}, which is not an `async def`: make it one and {how}; what blocks goes into "
        "`asyncio.to_thread`"
    )


def _kind(request_streaming: Any, response_streaming: Any) -> str:
    return "_".join("stream" if streams else "unary" for streams in (request_streaming, response_streaming))


def _function(behavior: Any) -> Any:
    while isinstance(behavior, partial):
        behavior = behavior.func
    if inspect.isroutine(behavior) or inspect.iscoroutinefunction(behavior):
        return behavior
    return getattr(type(behavior), "__call__", behavior)  # noqa: B004  # an object that is called like a function


def _is_left_out(function: Any) -> bool:
    code = getattr(function, "__code__", None)
    return code is not None and NOT_IMPLEMENTED in code.co_consts
