"""What a call leaves in the access log."""

from typing import Any, Final, NamedTuple

from grpc import StatusCode

from grpc_common.call import Method
from grpc_common.logs import finish
from grpc_common.redaction import redact_text
from grpc_common.unkept_span import SpanFacts

HEALTH: Final = "grpc.health.v1.Health"
SERVER_FAULTS: Final = frozenset(
    {StatusCode.UNKNOWN, StatusCode.INTERNAL, StatusCode.UNAVAILABLE, StatusCode.DATA_LOSS}
)


class AccessLine(NamedTuple):
    """The facts of one ended call, taken at its end; `bytes()` renders them, on another thread and later."""

    method: Method
    status: StatusCode
    at: float
    """When it ended: Unix seconds."""
    seconds: float
    """How long it took."""
    correlation_id: str
    peer: str
    principal: str | None
    """The subject of whoever called, where that is known."""
    left: float | None
    """Seconds of the deadline that were left."""
    received: int
    sent: int
    error_code: str
    error_id: str
    span: SpanFacts

    @property
    def level(self) -> str:
        """Of a health check that went well "debug": probes come every second, and would bury the calls."""
        if self.status is StatusCode.OK:
            return "debug" if self.method.service == HEALTH else "info"
        return "error" if self.status in SERVER_FAULTS else "info"

    def fields(self) -> dict[str, Any]:
        """Return the fields of the line by name."""
        method = self.method
        fields: dict[str, Any] = {
            "method": method.label.path,
            "kind": method.kind,
            "status": self.status.name,
            "duration_ms": _milliseconds(self.seconds),
            "correlation_id": self.correlation_id,
            "peer": self.peer,
        }
        if method.request_streaming:
            fields["received"] = self.received
        if method.response_streaming:
            fields["sent"] = self.sent
        if self.error_code:
            fields["error_code"] = self.error_code
        if self.error_id:
            fields["error_id"] = self.error_id
        if self.principal is not None:
            fields["principal"] = self.principal
        if self.left is not None:
            fields["budget_ms"] = _milliseconds(self.left + self.seconds)
            fields["left_ms"] = _milliseconds(self.left)
        return fields

    def __bytes__(self) -> bytes:
        """Return the line as `grpc_common.logs` writes it."""
        line = self.fields()
        # The rest is the server's own and holds no secrets.
        line["correlation_id"] = redact_text(self.correlation_id)
        if self.principal is not None:
            line["principal"] = redact_text(self.principal)
        line["component"], line["event"] = "access", "call"
        return finish(line, self.level, self.at, self.span)


def _milliseconds(seconds: float) -> float:
    # To a whole number first: `round` with digits goes by way of a text, and takes half as long as all of the line.
    return round(seconds * 1e6) / 1000
