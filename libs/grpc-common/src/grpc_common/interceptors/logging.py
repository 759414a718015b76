"""The access log: one line per call."""

import logging
import time
from time import monotonic, perf_counter
from typing import Any, Final

import structlog
from grpc import StatusCode

from grpc_common.access_line import AccessLine
from grpc_common.call import Call, Method, Run
from grpc_common.chain import Interceptor
from grpc_common.correlation import correlate, send_back
from grpc_common.logs import Shortcut, shortcut
from grpc_common.outcome import outcome
from grpc_common.trace_context import span_of

_NUMBERS: Final = {"debug": logging.DEBUG, "info": logging.INFO, "error": logging.ERROR}


class LoggingInterceptor(Interceptor):
    """A call leaves exactly one log line, however it ends: who called what, the status, the time; never its content.

    `budget_ms` is the time the call was given, `left_ms` what was left of it. Health checks that went well are worth a
    debug line only: probes come every second, and would bury the calls.
    """

    def __init__(self) -> None:
        self._log = structlog.get_logger(component="access")

    def wrap(self, method: Method, call_next: Run) -> Run:  # noqa: ARG002
        """Log each call as it ends."""
        way = shortcut()

        async def run(call: Call, request: Any) -> Any:
            correlate(call)
            failure: BaseException | None = None
            try:
                reply = await call_next(call, request)
                send_back(call)
            except BaseException as error:
                failure = error
                raise
            else:
                return reply
            finally:
                self._write(_line(call, outcome(call, failure)), way)

        return run

    def _write(self, line: AccessLine, way: Shortcut | None) -> None:
        level = line.level
        if way is None or not way.is_open:
            getattr(self._log, level)("call", **line.fields())
        elif level == "error":
            way.sink.put_now(line)
        elif _NUMBERS[level] >= way.level:
            way.sink.put(line)


def _line(call: Call, status: StatusCode) -> AccessLine:
    return AccessLine(
        call.method,
        status,
        time.time(),
        perf_counter() - call.started,
        call.correlation_id,
        call.core.peer(),
        call.principal.subject if call.principal is not None else None,
        call.deadline - monotonic() if call.deadline is not None else None,
        call.received,
        call.sent,
        call.error_code,
        call.error_id,
        span_of(call),
    )
