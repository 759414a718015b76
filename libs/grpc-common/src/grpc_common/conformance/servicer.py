"""The handlers under every case: they take one request, give one reply where replies are streamed, and then end."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, Final

import grpc
from google.protobuf.wrappers_pb2 import StringValue

from grpc_common.call import Handler
from grpc_common.conformance.endings import End, no_end
from grpc_common.conformance.kinds import STYLES, Style

SERVICE: Final = "grpc_common.conformance.Matrix"
VISIT: Final = "x-conformance-visit"
"""The metadata key that names the visit of a call."""


@dataclass(slots=True)
class Visit:
    """One call's way through its handler."""

    name: str = ""
    end: End = no_end
    reply: Any = "last"
    entered: asyncio.Event = field(default_factory=asyncio.Event)
    """The handler has begun."""
    waits: asyncio.Event = field(default_factory=asyncio.Event)
    """It has taken the request, and comes to its end."""
    left: asyncio.Event = field(default_factory=asyncio.Event)
    """It has run its clean-up."""
    tasks: list[asyncio.Task[Any] | None] = field(default_factory=list)
    """In which task it began, and in which its clean-up ran."""

    def begin(self) -> None:
        """Note that the handler begins."""
        self.tasks.append(asyncio.current_task())
        self.entered.set()

    def close(self) -> None:
        """Note that its clean-up runs."""
        self.tasks.append(asyncio.current_task())
        self.left.set()


class Servicer:
    """One method per style, named for it, with StringValue both ways."""

    def __init__(self, service: str = SERVICE) -> None:
        self.service: Final = service
        self.visits: Final[dict[str, Visit]] = {}

    def generic(self) -> grpc.GenericRpcHandler:
        """Return what to add to a server."""
        handlers = {style.name: self._handler(style) for style in STYLES}
        return grpc.method_handlers_generic_handler(self.service, handlers)

    def _handler(self, style: Style) -> Handler:
        behavior = {"unary": self._give_one, "generator": self._generate, "write": self._write}[style.replies](style)
        make = getattr(grpc, f"{style.kind}_rpc_method_handler")
        handler: Handler = make(behavior, parse, serialize)
        return handler

    def _visit(self, context: Any) -> Visit:
        # Core may still begin a call that its client has long given up.
        visit = self.visits.get(dict(context.invocation_metadata())[VISIT]) or Visit()
        visit.begin()
        return visit

    def _give_one(self, style: Style) -> Callable[[Any, Any], Any]:
        async def give_one(request: Any, context: Any) -> Any:
            visit = self._visit(context)
            try:
                await _take(style, request, context)
                visit.waits.set()
                await visit.end(context)
                return visit.reply
            finally:
                visit.close()

        return give_one

    def _generate(self, style: Style) -> Callable[[Any, Any], Any]:
        async def generate(request: Any, context: Any) -> AsyncIterator[Any]:
            visit = self._visit(context)
            try:
                await _take(style, request, context)
                yield "first"
                visit.waits.set()
                await visit.end(context)
                yield visit.reply
            finally:
                visit.close()

        return generate

    def _write(self, style: Style) -> Callable[[Any, Any], Any]:
        async def write(request: Any, context: Any) -> None:
            visit = self._visit(context)
            try:
                await _take(style, request, context)
                await context.write("first")
                visit.waits.set()
                await visit.end(context)
                await context.write(visit.reply)
            finally:
                visit.close()

        return write


async def _take(style: Style, request: Any, context: Any) -> None:
    if style.requests == "iterator":
        async for each in request:
            request = each
            break
    elif style.requests == "read":
        request = await context.read()
    if getattr(request, "value", None) != "1":
        # Where a stream is cut its end may be read just before the cancellation comes.
        await no_end(context)


def parse(data: bytes) -> StringValue:
    """Parse a request; what is wrong with one is told in words that no caller may see."""
    try:
        return StringValue.FromString(data)
    except Exception as error:
        raise ValueError(f"cannot parse {data!r}") from error


def serialize(message: Any) -> bytes:
    """Serialise a reply, and complain likewise."""
    if not isinstance(message, str):
        raise TypeError(f"cannot serialise {message!r}")
    return StringValue(value=message).SerializeToString()
