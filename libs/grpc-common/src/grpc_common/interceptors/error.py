"""The one place where exceptions become gRPC statuses."""

import asyncio
import uuid
from typing import Any, Never

import structlog
from grpc import StatusCode
from grpc.aio import AbortError
from opentelemetry import trace

from grpc_common.call import Call, Method, Run
from grpc_common.chain import Interceptor
from grpc_common.correlation import KEY, send_back
from grpc_common.error_trailers import MAX_TEXT, clip, error_code, error_trailers
from grpc_common.errors import INTERNAL_MESSAGE, AppException, exception_to_status
from grpc_common.http_hints import http_hints
from grpc_common.outcome import is_cancelled, lost_client
from grpc_common.reply_context import MAX_PAIRS, Pairs, size_of
from grpc_common.trace_context import span_of

_log = structlog.get_logger(component="error")


class ErrorInterceptor(Interceptor):
    """A call that fails ends with the status its error means and the error's details, and leaks nothing else."""

    def wrap(self, method: Method, call_next: Run) -> Run:  # noqa: ARG002
        """Turn every exception into an abort."""

        async def run(call: Call, request: Any) -> Any:
            try:
                return await call_next(call, request)
            except AbortError as error:
                if call.core.done():
                    raise
                await abort(call, error)  # somebody has made it by hand, and core would not know it
            except asyncio.CancelledError as error:
                if is_cancelled() or call.cut is not None:
                    raise
                # Core would leave the caller without any answer.
                await abort(call, error)
            except (GeneratorExit, KeyboardInterrupt, SystemExit):
                raise
            except BaseException as error:  # noqa: BLE001  # of one that is no Exception core would tell nobody
                await abort(call, error)

        return run


async def abort(call: Call, raised: BaseException) -> Never:
    """End `call` with the status and the details of `raised`."""
    error = single(raised)
    if isinstance(error, AbortError) and call.core.done():
        raise error
    if lost_client(error) and (call.context.code() is None or call.context.done()):
        raise error  # nobody is left to be told, not even by the abort that has just failed
    context = call.context
    if isinstance(error, NotImplementedError) and context.code() is StatusCode.UNIMPLEMENTED:
        status, message = StatusCode.UNIMPLEMENTED, context.details() or "Method not implemented!"
    else:
        status, message = exception_to_status(error)
    facts = _facts(call)
    if status is StatusCode.INTERNAL:
        call.error_id = facts["error_id"] = uuid.uuid4().hex
        _log.error(
            "call failed",
            method=call.method.path,
            error_id=call.error_id,
            correlation_id=call.correlation_id,
            exc_info=raised,
        )
        if not isinstance(error, AppException):
            message = f"{INTERNAL_MESSAGE} (error id {call.error_id})"
    call.error_code = error_code(error, status)
    if call.correlation_id:
        send_back(call)
    # The text is the same as in the trailers' Status.
    text = clip(message, MAX_TEXT)
    try:
        trailers = _trailers(call, error, status, message, facts)
    except Exception:  # noqa: BLE001  # whatever it is, the status is to be told
        _log.exception("error details left out", method=call.method.path)
        trailers = tuple(pair for pair in context.trailing_metadata() or () if pair[0] == KEY)
    await context.abort(status, text, trailers)
    raise AssertionError("abort returned")


def _trailers(call: Call, error: BaseException, status: StatusCode, message: str, facts: dict[str, str]) -> Pairs:
    details = error_trailers(error, status, message, domain=call.method.service, facts=facts)
    ours: Pairs = (*details, *http_hints(error, status))
    mine = {key for key, _ in ours}
    others: Pairs = tuple(pair for pair in call.core.trailing_metadata() or () if pair[0] not in mine)
    room = MAX_PAIRS - MAX_TEXT * 2 - size_of(ours)  # the text takes up to three bytes for one
    if (size := size_of(others)) > room:
        # What failed matters more than what the handler had to say before.
        left_out = sorted({key for key, _ in others} - {KEY})
        _log.warning("trailers left out", method=call.method.path, keys=left_out, bytes=size, room=room)
        others = tuple(pair for pair in others if pair[0] == KEY)
    return (*others, *ours)


def single(error: BaseException) -> BaseException:
    """Return the one exception inside groups of one, as a TaskGroup with one failed task raises them."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def _facts(call: Call) -> dict[str, str]:
    facts = {}
    if call.correlation_id:
        facts["correlation_id"] = call.correlation_id
    span = span_of(call)
    if span.is_valid:
        facts["trace_id"] = trace.format_trace_id(span.trace_id)
    return facts
