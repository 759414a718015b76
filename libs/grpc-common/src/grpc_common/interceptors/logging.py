"""The access log: one line per call."""

from time import monotonic, perf_counter
from typing import Any, Final

import structlog
from grpc import StatusCode

from grpc_common.call import Call, Method, Run
from grpc_common.chain import Interceptor
from grpc_common.correlation import correlate, send_back
from grpc_common.outcome import outcome

HEALTH: Final = "grpc.health.v1.Health"
SERVER_FAULTS: Final = frozenset(
    {StatusCode.UNKNOWN, StatusCode.INTERNAL, StatusCode.UNAVAILABLE, StatusCode.DATA_LOSS}
)


class LoggingInterceptor(Interceptor):
    """A call leaves exactly one log line, however it ends: who called what, the status, the time; never its content.

    `budget_ms` is the time the call was given, `left_ms` what was left of it. Health checks that went well are worth a
    debug line only: probes come every second, and would bury the calls.
    """

    def __init__(self) -> None:
        self._log = structlog.get_logger(component="access")

    def wrap(self, method: Method, call_next: Run) -> Run:  # noqa: ARG002
        """Log each call as it ends."""

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
                self._write(call, outcome(call, failure))

        return run

    def _write(self, call: Call, status: StatusCode) -> None:
        method = call.method
        fields: dict[str, Any] = {
            "method": method.path,
            "kind": method.kind,
            "status": status.name,
            "duration_ms": round((perf_counter() - call.started) * 1000, 3),
            "correlation_id": call.correlation_id,
            "peer": call.context.peer(),
        }
        if method.request_streaming:
            fields["received"] = call.received
        if method.response_streaming:
            fields["sent"] = call.sent
        if call.error_code:
            fields["error_code"] = call.error_code
        if call.error_id:
            fields["error_id"] = call.error_id
        if call.principal is not None:
            fields["principal"] = call.principal.subject
        if call.deadline is not None:
            left = (call.deadline - monotonic()) * 1000
            fields["budget_ms"] = round(left + fields["duration_ms"], 3)
            fields["left_ms"] = round(left, 3)
        if status in SERVER_FAULTS:
            self._log.error("call", **fields)
        elif status is StatusCode.OK and method.service == HEALTH:
            self._log.debug("call", **fields)
        else:
            self._log.info("call", **fields)
