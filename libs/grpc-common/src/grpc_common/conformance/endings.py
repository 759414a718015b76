"""The ways a call can end."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, NamedTuple

from grpc import StatusCode
from grpc.aio import AbortError

from grpc_common.conformance.kinds import ONE_PER_KIND, STYLES, Style
from grpc_common.errors import NotFoundError

SECRET: Final = "hunter2"  # noqa: S105  # the text that no caller may see
type End = Callable[[Any], Awaitable[None]]
"""What a handler does at its end, given its context."""


class Client(Enum):
    """What the client does once the handler waits."""

    WAITS = "waits for the end"
    CANCELS = "cancels the call"
    CLOSES = "closes its channel"
    BREAKS = "leaves the loop over the replies, and cancels"
    VANISHES = "loses its connection"
    RUNS_OUT = "has no time left, and no way to say so"


class Request(Enum):
    """What the client sends."""

    GOOD = "a request that parses"
    GARBAGE = "bytes that do not parse"
    NONE = "its end at once, and no request"
    OVERSIZED = "more bytes than the server takes"
    MUCH_METADATA = "more metadata than the server takes"
    NO_SUCH_METHOD = "a method the server does not have"


async def no_end(context: Any) -> None:  # noqa: ARG001
    """Wait for ever."""
    await asyncio.Event().wait()


async def at_once(context: Any) -> None:
    """Return."""


@dataclass(frozen=True, slots=True)
class Ending:
    """One way, and what must be seen of it."""

    name: str
    status: StatusCode
    """What the client receives and every observer records, where errors are mapped (`Subject.maps_errors`)."""
    end: End = at_once
    client: Client = Client.WAITS
    request: Request = Request.GOOD
    unmapped: frozenset[StatusCode] = frozenset()
    """What it may be elsewhere; nothing means `status` there too."""
    received: frozenset[StatusCode] = frozenset()
    """What the client receives, where that is not what the server records."""
    reply: Any = "last"
    """The handler's last reply; what is no string does not serialise."""
    styles: tuple[Style, ...] = STYLES
    unanswered: bool = False
    """Whether core leaves the client without any answer, where errors are not mapped."""


class Refusal(NamedTuple):
    """A `grpc.Status`."""

    code: StatusCode
    details: str
    trailing_metadata: tuple[tuple[str, str], ...]


async def _domain_error(context: Any) -> None:  # noqa: ARG001
    raise NotFoundError("no such thing", field="id")


async def _abort(context: Any) -> None:
    await context.abort(StatusCode.FAILED_PRECONDITION, "not now")


async def _swallowed_abort(context: Any) -> None:
    with suppress(AbortError):
        await context.abort(StatusCode.FAILED_PRECONDITION, "not now")


async def _abort_with_status(context: Any) -> None:
    await context.abort_with_status(Refusal(StatusCode.OUT_OF_RANGE, "too far", (("k", "v"),)))


async def _unimplemented(context: Any) -> None:
    # As generated servicers do for a method that nobody has written.
    context.set_code(StatusCode.UNIMPLEMENTED)
    context.set_details("Method not implemented!")
    raise NotImplementedError("Method not implemented!")


async def _status_set(context: Any) -> None:
    context.set_code(StatusCode.DATA_LOSS)
    context.set_details("gone")


async def _crash(context: Any) -> None:  # noqa: ARG001
    raise RuntimeError(SECRET)


async def _timeout(context: Any) -> None:  # noqa: ARG001
    async with asyncio.timeout(0):
        await asyncio.Event().wait()


async def _stray_cancellation(context: Any) -> None:  # noqa: ARG001
    raise asyncio.CancelledError(SECRET)


async def _swallowed_cancellation(context: Any) -> None:
    with suppress(asyncio.CancelledError):
        await no_end(context)


def _in_a_task(end: End) -> End:
    async def ends(context: Any) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(end(context))  # type: ignore[arg-type]  # a coroutine; End says no more than it needs

    return ends


_UNKNOWN: Final = frozenset({StatusCode.UNKNOWN})
_BROKEN: Final = frozenset({StatusCode.UNKNOWN, StatusCode.INTERNAL})
_REPLIES_STREAMED: Final = tuple(style for style in STYLES if style.replies != "unary")
_REQUESTS_SINGLE: Final = tuple(style for style in STYLES if style.requests == "unary")
_REQUESTS_STREAMED: Final = tuple(style for style in STYLES if style.requests != "unary")

ENDINGS: Final = (
    Ending("return", StatusCode.OK),
    Ending("domain-error", StatusCode.NOT_FOUND, _domain_error, unmapped=_UNKNOWN),
    Ending("domain-error-in-a-task", StatusCode.NOT_FOUND, _in_a_task(_domain_error), unmapped=_UNKNOWN),
    Ending("abort", StatusCode.FAILED_PRECONDITION, _abort),
    Ending("abort-in-a-task", StatusCode.FAILED_PRECONDITION, _in_a_task(_abort)),
    Ending("swallowed-abort", StatusCode.FAILED_PRECONDITION, _swallowed_abort),
    Ending("abort-with-status", StatusCode.OUT_OF_RANGE, _abort_with_status),
    Ending("unimplemented", StatusCode.UNIMPLEMENTED, _unimplemented),
    Ending("status-set", StatusCode.DATA_LOSS, _status_set),
    Ending("crash", StatusCode.INTERNAL, _crash, unmapped=_UNKNOWN),
    Ending("crash-in-a-task", StatusCode.INTERNAL, _in_a_task(_crash), unmapped=_UNKNOWN),
    Ending("own-timeout", StatusCode.DEADLINE_EXCEEDED, _timeout, unmapped=_UNKNOWN),
    Ending(
        "stray-cancellation", StatusCode.INTERNAL, _stray_cancellation, unmapped=frozenset({StatusCode.CANCELLED}),
        unanswered=True,
    ),
    Ending("cancel", StatusCode.CANCELLED, no_end, Client.CANCELS),
    Ending("swallowed-cancellation", StatusCode.CANCELLED, _swallowed_cancellation, Client.CANCELS),
    Ending("close", StatusCode.CANCELLED, no_end, Client.CLOSES),
    Ending("early-break", StatusCode.CANCELLED, no_end, Client.BREAKS, styles=_REPLIES_STREAMED),
    Ending(
        "disconnect", StatusCode.CANCELLED, no_end, Client.VANISHES, received=frozenset({StatusCode.UNAVAILABLE})
    ),
    Ending("deadline", StatusCode.DEADLINE_EXCEEDED, no_end, Client.RUNS_OUT),
    Ending("unparsable-request", StatusCode.INVALID_ARGUMENT, request=Request.GARBAGE, unmapped=_BROKEN),
    Ending("unserialisable-reply", StatusCode.INTERNAL, reply={"not": SECRET}, unmapped=_BROKEN),
    Ending("unknown-method", StatusCode.UNIMPLEMENTED, request=Request.NO_SUCH_METHOD, styles=ONE_PER_KIND),
    Ending("no-request", StatusCode.UNIMPLEMENTED, request=Request.NONE, styles=_REQUESTS_SINGLE),
    Ending(
        "oversized-request", StatusCode.RESOURCE_EXHAUSTED, request=Request.OVERSIZED, styles=_REQUESTS_SINGLE,
    ),
    Ending(
        "oversized-streamed-request", StatusCode.RESOURCE_EXHAUSTED, request=Request.OVERSIZED,
        styles=_REQUESTS_STREAMED,
    ),
    Ending(
        "oversized-metadata", StatusCode.CANCELLED, request=Request.MUCH_METADATA, styles=_REQUESTS_SINGLE,
        received=frozenset({StatusCode.RESOURCE_EXHAUSTED}),
    ),
    Ending(
        "oversized-streamed-metadata", StatusCode.CANCELLED, request=Request.MUCH_METADATA, styles=_REQUESTS_STREAMED,
        received=frozenset({StatusCode.RESOURCE_EXHAUSTED}),
    ),
)  # fmt: skip
"""All but malformed HTTP, which is no call yet: see `Matrix.check_malformed`."""


class Case(NamedTuple):
    """A cell of the matrix."""

    style: Style
    ending: Ending

    def __str__(self) -> str:
        return f"{self.style.name}-{self.ending.name}"


CASES: Final = tuple(Case(style, ending) for ending in ENDINGS for style in ending.styles)
