"""One call on its way through the chain."""

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass
from time import monotonic, perf_counter
from typing import TYPE_CHECKING, Any, Final, Self

import grpc

from grpc_common.policy import MethodPolicy, PolicyError, declared_method, policy_of
from grpc_common.reply_context import ReplyContext
from grpc_common.unkept_span import SpanFacts

if TYPE_CHECKING:
    from grpc_common.codec import StreamContext
    from grpc_common.served import Served

type Handler = grpc.RpcMethodHandler[Any, Any]

type Metadata = tuple[tuple[str, str | bytes], ...]

type Run = Callable[[Call, Any], Awaitable[Any]]
"""The one shape all kinds of RPC are brought to: `reply = await run(call, request)`.

`request` is a message, or an async iterator of messages where requests are streamed. The reply is a message, or None
where replies are streamed: those are written to `call.context`. A whole call is one coroutine in one task, so what is
set in a context variable around `await call_next(...)` can be reset after it, in every way a call may end.
"""

UNKNOWN: Final = "unknown"
"""What a method is called that no server has."""
OTHER: Final = "other"
"""What a method is called whose name nobody declared, where too many such names have come."""


@dataclass(frozen=True, slots=True)
class Method:
    """A method as the server knows it; `path` is "/package.Service/Name"."""

    path: str
    service: str
    name: str
    request_streaming: bool
    response_streaming: bool
    policy: MethodPolicy | None = None
    is_declared: bool = False
    """Whether a descriptor of this program has it; other names may be made up by callers, without end."""
    reply: str = ""
    """The full name of its reply's message, where a descriptor tells."""
    is_named: bool = True
    """Whether logs, metrics and traces call it by its name; see `label`."""

    @classmethod
    def of(cls, path: str, handler: Handler) -> Self:
        """Describe the method at `path` as `handler` implements it, with its policy where the proto declares one."""
        service, _, name = path.removeprefix("/").rpartition("/")
        declared = declared_method(path)
        # An interceptor further in may have made the handler, and have one that reads its one request by itself.
        streams = bool(handler.request_streaming) and (declared is None or bool(declared.client_streaming))
        policy = policy_of(path)
        shape = streams, bool(handler.response_streaming)
        if declared is None:
            return cls(path, service, name, *shape, policy)
        return cls(path, service, name, *shape, policy, is_declared=True, reply=declared.output_type.full_name)

    @classmethod
    def declared(cls, path: str) -> Self | None:
        """Describe the method at `path` as a descriptor does, without its policy where that is a bad one."""
        if (declared := declared_method(path)) is None:
            return None
        service, _, name = path.removeprefix("/").rpartition("/")
        shape = bool(declared.client_streaming), bool(declared.server_streaming)
        try:
            policy = policy_of(path)
        except PolicyError:
            policy = None
        return cls(path, service, name, *shape, policy, is_declared=True, reply=declared.output_type.full_name)

    def describes(self, handler: Handler) -> bool:
        """Say whether `of` would say the same of `handler`."""
        streams = bool(handler.request_streaming) and (self.request_streaming or not self.is_declared)
        return self.request_streaming is streams and self.response_streaming is bool(handler.response_streaming)

    @property
    def kind(self) -> str:
        """One of unary_unary, unary_stream, stream_unary and stream_stream: requests first, replies second."""
        return _KINDS[self.request_streaming, self.response_streaming]

    @property
    def label(self) -> "Method":
        """This method as logs, metrics and traces name it: as OTHER where they would have to know too many names."""
        if self.is_named:
            return self
        return Method(OTHER, OTHER, OTHER, self.request_streaming, self.response_streaming)


_KINDS: Final = {
    (False, False): "unary_unary",
    (False, True): "unary_stream",
    (True, False): "stream_unary",
    (True, True): "stream_stream",
}


class Call:
    """What the interceptors of one call share."""

    __slots__ = (
        "_headers",
        "_metadata",
        "after_write",
        "context",
        "core",
        "correlation_id",
        "counted",
        "cut",
        "deadline",
        "error_code",
        "error_id",
        "method",
        "principal",
        "received",
        "refusal",
        "refused",
        "sending",
        "sent",
        "sent_back",
        "served",
        "span",
        "started",
        "waits",
        "write_cut",
        "writing",
    )

    def __init__(self, method: Method, context: Any) -> None:
        self.method = method
        self._metadata: Metadata | None = None
        self._headers: dict[str, str | bytes] | None = None
        self.core = context
        """The runtime's servicer context itself, for what every call asks of it."""
        self.context: Any = ReplyContext(context)
        """The same behind proxies that refuse what cannot be sent, and parse messages: what handlers are given."""
        self.served: Served | None = None
        """The handler that this call came to, once a chain has begun it."""
        self.started = perf_counter()
        """Seconds of `time.perf_counter`."""
        self.correlation_id = ""
        self.counted = False
        """Whether somebody counts its messages."""
        self.cut: grpc.StatusCode | None = None
        """How the call ended, once somebody has seen that nobody waits for it any more."""
        self.error_code = ""
        """The stable code of the error the call ended with, once the error interceptor has seen it."""
        self.error_id = ""
        self.received = 0
        """Messages read so far, where requests are streamed."""
        self.refused = False
        """Whether core has refused a message of its requests: see `grpc_common.refused_messages`."""
        self.refusal: Exception | None = None
        """Why its task was told to stop, where that is to be told to the caller."""
        self.sent = 0
        """Messages written so far, where replies are streamed."""
        self.sent_back: Metadata = ()
        """The trailers as they were when the correlation id was put among them."""
        self.span: SpanFacts | None = None
        """Which its span is, once the tracing interceptor has begun one."""
        self.waits: asyncio.Task[Any] | None = None
        """The task that waits for the call's one request, as long as it does."""
        self.sending: StreamContext | None = None
        """What core sends of its replies right now."""
        self.writing = 0
        """How many replies are being sent right now."""
        self.after_write: list[Callable[[], None]] = []
        """What waits for them to be sent."""
        self.write_cut = False
        """Whether somebody stopped waiting for a reply to be sent, which core goes on sending."""
        self.principal: Any = None
        self.deadline: float | None = None

    @property
    def metadata(self) -> Metadata:
        """What the caller sent along, as pairs with the key in lower case; read from the runtime only once."""
        metadata = self._metadata
        if metadata is None:
            # grpc.aio makes new tuples each time, which costs more than most interceptors.
            metadata = self._metadata = tuple(self.core.invocation_metadata() or ())
        return metadata

    @property
    def headers(self) -> dict[str, str | bytes]:
        """The metadata by key; of a key that was sent more than once, the last value."""
        headers = self._headers
        if headers is None:
            headers = self._headers = dict(self.metadata)
        return headers

    def time_left(self) -> float:
        """Return the seconds until its deadline; 0 where it has none or is over."""
        return max(0.0, self.deadline - monotonic()) if self.deadline is not None else 0.0

    def repeats(self, key: str) -> bool:
        """Say whether the caller sent `key` more than once."""
        return len(self.headers) != len(self.metadata) and sum(name == key for name, _ in self.metadata) > 1


current_call: ContextVar[Call | None] = ContextVar("current_call", default=None)
"""The call this task works for."""

asked_for: ContextVar[str] = ContextVar("asked_for", default="")
"""The path this task was called by, where the server has no such method."""
