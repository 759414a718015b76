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
from grpc_common.correlation import send_back
from grpc_common.error_trailers import MAX_TEXT, clip, error_code, error_trailers
from grpc_common.errors import INTERNAL_MESSAGE, AppException, exception_to_status
from grpc_common.http_hints import http_hints
from grpc_common.outcome import is_cancelled, lost_client
from grpc_common.trace_context import span_of

WRITE_ENDS_WITHIN = 0.02
"""Seconds; a client that does not read can hold a write up for longer, and then gets no status."""

_log = structlog.get_logger(component="error")


class ErrorInterceptor(Interceptor):
    """A call that fails ends with the status its error means and the error's details, and leaks nothing else."""

    def wrap(self, method: Method, call_next: Run) -> Run:  # noqa: ARG002
        """Turn every exception into an abort."""

        async def run(call: Call, request: Any) -> Any:
            try:
                return await call_next(call, request)
            except AbortError:
                raise
            except asyncio.CancelledError as error:
                if is_cancelled():
                    raise
                # Core would leave the caller without any answer.
                await abort(call, error)
            except Exception as error:  # noqa: BLE001
                await abort(call, error)
            except BaseExceptionGroup as group:
                await abort(call, group)

        return run


async def abort(call: Call, raised: BaseException) -> Never:
    """End `call` with the status and the details of `raised`."""
    error = single(raised)
    if isinstance(error, AbortError):
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
    if call.write_cut:
        # Core takes no status while it sends a message: it would lose ours, and the caller would wait for ever.
        await asyncio.sleep(WRITE_ENDS_WITHIN)
    if call.correlation_id:
        send_back(call)
    details = error_trailers(error, status, message, domain=call.method.service, facts=facts)
    ours = (*details, *http_hints(error, status))
    mine = {key for key, _ in ours}
    others = tuple(pair for pair in context.trailing_metadata() or () if pair[0] not in mine)
    # The text is the same as in the trailers' Status.
    await context.abort(status, clip(message, MAX_TEXT), (*others, *ours))
    raise AssertionError("abort returned")


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
