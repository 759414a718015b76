"""Callers that are there and do not read: what is sent to them waits, and nothing that core offers a server ends it.

HTTP/2 lets a caller decide how much may be sent to it. One that answers pings and takes nothing holds its call, the
reply and the server's end for ever, whatever the policy's timeout is; core watches over the caller's own deadline only.
"""

import asyncio
import gc
from collections.abc import Awaitable
from typing import Any, Final

import structlog
from grpc import StatusCode
from grpc.aio import InternalError

from grpc_common.call import Call
from grpc_common.outcome import in_the_way

STATUS_SENT_WITHIN: Final = 3.0
"""Seconds that the status of a call is waited for behind a reply that the caller has not taken in its time."""
TAKEN_WITHIN: Final = 30.0
"""Seconds that a caller has at least to take the end of what it was sent; more where its time is not over by then."""
MUCH: Final = 16384
"""Bytes; a single reply that is smaller is not watched over."""

# In grpc.aio, what waits for the end of a call and holds it; inside runs the task of its handler.
_HOLDER: Final = "rpc_task"


async def told(call: Call, sending: Awaitable[Any], status: StatusCode) -> None:
    """Await the `sending` of the `status` of `call`. Where its caller takes nothing, cut it off and be cancelled."""
    try:
        async with asyncio.timeout(STATUS_SENT_WITHIN) as bound:
            await sending
            return
    except TimeoutError:
        if not bound.expired():
            raise
    except InternalError as error:
        if not in_the_way(error):
            raise  # the caller has gone
    call.cut = call.cut or status
    cut_off(call, asyncio.current_task())
    raise asyncio.CancelledError


def watch_over_the_end(call: Call) -> None:
    """Cut `call` off if its caller has not taken all of it in time, from now on that its handler has ended."""
    task, left = asyncio.current_task(), call.core.time_remaining()
    if task is None or left is not None:
        return  # core watches over a deadline of the caller's own
    loop = asyncio.get_running_loop()
    seconds = max(TAKEN_WITHIN, call.time_left())
    timer = loop.call_later(seconds, _give_up, call, task)
    call.core.add_done_callback(lambda _: timer.cancel())


def _give_up(call: Call, task: asyncio.Task[Any]) -> None:
    cut_off(call, task)
    task.cancel()


def cut_off(call: Call, task: asyncio.Task[Any] | None) -> None:
    """End `call`, whose handler runs or ran in `task`, with a reset of its stream, and let go of what it holds.

    There is no way to say so: core resets a call that nobody holds any more, and its holder ends when it is cancelled.
    """
    structlog.get_logger(component="server").warning(
        "caller took no reply", method=call.method.label.path, correlation_id=call.correlation_id
    )
    if call.sending is not None:
        call.sending.give_up()  # it holds the call, too
    for holder in holders():
        if task is not None and _holds(holder, task):
            holder.cancel()


def holders() -> list[asyncio.Task[Any]]:
    """Return what holds the calls of all servers of this loop, until core is done with them."""
    return [task for task in asyncio.all_tasks() if task.get_name() == _HOLDER]


def _holds(holder: asyncio.Task[Any], task: asyncio.Task[Any]) -> bool:
    parts = gc.get_referents(holder.get_coro())
    return any(part is task for part in parts) or any(each is task for part in parts for each in gc.get_referents(part))
