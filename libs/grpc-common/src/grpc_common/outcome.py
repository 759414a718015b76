"""How a call ended: one answer for all that observe calls."""

import asyncio
from typing import Any, Final

from grpc import StatusCode
from grpc._cython import cygrpc  # type: ignore[attr-defined]  # it has no stub
from grpc.aio import AbortError

from grpc_common.call import Call
from grpc_common.reply_context import status_of

_IN_THE_WAY: Final = "Failed grpc_call_start_batch"
_FINE: Final = frozenset({None, StatusCode.OK})


def outcome(call: Call, exception: BaseException | None) -> StatusCode:
    """Return the status the caller is sent, as seen from around the rest of the chain, which ended with `exception`.

    A call whose client has gone, or cut by the server's stop, is CANCELLED; one whose time was up, DEADLINE_EXCEEDED.
    """
    code = call.core.code()
    if exception is None and code is None and not is_cancelled():  # so do almost all calls end
        return StatusCode.OK
    # Once core has sent or been told a status no later exception changes it; core has None for one nobody has set.
    status = _status(code)
    if exception is None:
        if status in _FINE and is_cancelled():  # the handler kept the cancellation to itself
            return _cut(call)
        return status or StatusCode.OK
    if isinstance(exception, AbortError):
        return status or StatusCode.UNKNOWN
    if lost_client(exception):  # also where it was an abort that core could not send
        return _cut(call)
    if call.core.done() and status is not None:
        return status
    if isinstance(exception, asyncio.CancelledError):
        return _cut(call)
    return status if status is not None and status not in _FINE else StatusCode.UNKNOWN


def lost_client(exception: BaseException) -> bool:
    """Say whether `exception` is core's way to say that there is nobody to write to any more."""
    return isinstance(exception, cygrpc.ExecuteBatchError) and not in_the_way(exception)


def in_the_way(exception: BaseException) -> bool:
    """Say whether `exception` is core's way to say that it does the like for the same call already."""
    return isinstance(exception, cygrpc.ExecuteBatchError) and _IN_THE_WAY in str(exception)


def is_cancelled() -> bool:
    """Say whether this task has been told to stop, as core does with the task of a call nobody waits for any more.

    A CancelledError without that is an ordinary failure: some future of the handler's own was cancelled.
    """
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


def _cut(call: Call) -> StatusCode:
    # Asked again a moment later the time may be up: all observers must tell the same of one call.
    if call.cut is None:
        call.cut = StatusCode.CANCELLED if has_time(call) else StatusCode.DEADLINE_EXCEEDED
    return call.cut


def has_time(call: Call) -> bool:
    """Say whether the caller still waits; a call without deadline has all the time there is."""
    remaining = call.core.time_remaining()
    return remaining is None or remaining > 0


def _status(code: Any) -> StatusCode | None:
    return None if code is None else status_of(code)
