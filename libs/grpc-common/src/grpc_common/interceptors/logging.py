"""The access log: one line per call."""

from time import perf_counter
from typing import Any, Final

import structlog
from grpc import StatusCode

from grpc_common.call import Call, Method, Run
from grpc_common.chain import Interceptor
from grpc_common.correlation import correlate, send_back
from grpc_common.outcome import outcome

SERVER_FAULTS: Final = frozenset(
    {StatusCode.UNKNOWN, StatusCode.INTERNAL, StatusCode.UNAVAILABLE, StatusCode.DATA_LOSS}
)


class LoggingInterceptor(Interceptor):
    """A call leaves exactly one log line, however it ends: who called what, the status, the time; never its content."""

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
        if status in SERVER_FAULTS:
            self._log.error("call", **fields)
        else:
            self._log.info("call", **fields)
