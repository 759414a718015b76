"""What a caller gets when its call fails: the same typed errors as in the service called.

Each is a `grpc.RpcError`, too, and answers what `grpc.aio.AioRpcError` answers: `code()`, `details()`,
`initial_metadata()`, `trailing_metadata()`, `debug_error_string()`.

RemoteError                    any failed call: status, reason, retry_after, violations, trailers
  RemoteValidationError        INVALID_ARGUMENT      is a ValidationError
  RemoteNotFoundError          NOT_FOUND             is a NotFoundError
  RemoteUnauthorizedError      UNAUTHENTICATED       is an UnauthorizedError
  RemoteForbiddenError         PERMISSION_DENIED     is a ForbiddenError
  RemoteConflictError          ALREADY_EXISTS        is a ConflictError
  RemotePreconditionError      FAILED_PRECONDITION   is a PreconditionError
  RemoteAbortedError           ABORTED               is an AbortedError
  RemoteOutOfRangeError        OUT_OF_RANGE          is an OutOfRangeError
  RemoteRateLimitError         RESOURCE_EXHAUSTED    is a RateLimitError
  RemoteUnavailableError       UNAVAILABLE           is an ExternalServiceError
    CircuitOpenError           nothing was sent: the breaker is open
    ConnectionFailedError      nothing was sent: no connection; `cause` says why
  RemoteTimeoutError           DEADLINE_EXCEEDED     is a TimeoutError
    DeadlineSpentError         nothing was sent: no time was left
  RemoteFailure                any other status      is an AppException
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2
from grpc import StatusCode, aio

from grpc_common.error_trailers import DETAIL_KEY, STATUS_KEY, retry_delay
from grpc_common.errors import (
    AbortedError,
    AppException,
    ConflictError,
    ExternalServiceError,
    FieldViolation,
    ForbiddenError,
    NotFoundError,
    OutOfRangeError,
    PreconditionError,
    RateLimitError,
    UnauthorizedError,
    ValidationError,
)
from meshwork.common.v1 import errors_pb2

type Trailers = tuple[tuple[str, str | bytes], ...]


class RemoteError(grpc.RpcError):
    """A failed call. Let one pass out of a handler, and the handler's own caller gets the same status and message.

    One that is a RemoteFailure says nothing that would be true of the handler's own call: that is INTERNAL then.
    """

    status: StatusCode
    message: str
    """What happened; the name of the status in words where the server says nothing."""
    reason: str
    """The stable code of ErrorInfo, such as ITEM_LOCKED; the name of the status where the server gives none."""
    domain: str
    """Whose reasons these are, by ErrorInfo; "" where the server does not tell, "grpc_common.client" for our own."""
    metadata: dict[str, str]
    """Further facts out of ErrorInfo."""
    field: str
    violations: tuple[FieldViolation, ...]
    """The bad fields of the request (BadRequest)."""
    retry_after: float | None
    """Seconds after which the server wants to be asked again (RetryInfo), where it says so."""
    method: str
    """The path of the method called."""
    trailers: Trailers
    """The trailing metadata of the last attempt."""
    debug: str
    """What gRPC core says of the connection; for logs, not for callers."""
    attempts: int
    """How often the call was tried; 0 when nothing was sent."""
    headers: Trailers
    """The initial metadata of the last attempt; empty when nothing but the status was sent."""
    _details: str

    def code(self) -> StatusCode:
        """Return the status."""
        return self.status

    def details(self) -> str:
        """Return the text that came with the status, as it was sent: "" where `message` is ours."""
        return self._details

    def initial_metadata(self) -> aio.Metadata:
        """Return the initial metadata of the last attempt; empty when nothing but the status was sent."""
        return aio.Metadata(*self.headers)

    def trailing_metadata(self) -> aio.Metadata:  # type: ignore[override]  # as AioRpcError, which differs likewise
        """Return the trailing metadata of the last attempt."""
        return aio.Metadata(*self.trailers)

    def debug_error_string(self) -> str:
        """Return what gRPC core says of the connection; for logs, not for callers."""
        return self.debug

    def __str__(self) -> str:
        return f"{self.method}: {self.status.name}: {self.message}"


class RemoteValidationError(RemoteError, ValidationError):
    """INVALID_ARGUMENT."""


class RemoteNotFoundError(RemoteError, NotFoundError):
    """NOT_FOUND."""


class RemoteUnauthorizedError(RemoteError, UnauthorizedError):
    """UNAUTHENTICATED."""


class RemoteForbiddenError(RemoteError, ForbiddenError):
    """PERMISSION_DENIED."""


class RemoteConflictError(RemoteError, ConflictError):
    """ALREADY_EXISTS."""


class RemotePreconditionError(RemoteError, PreconditionError):
    """FAILED_PRECONDITION."""


class RemoteAbortedError(RemoteError, AbortedError):
    """ABORTED."""


class RemoteOutOfRangeError(RemoteError, OutOfRangeError):
    """OUT_OF_RANGE."""


class RemoteRateLimitError(RemoteError, RateLimitError):  # type: ignore[misc]  # the server need not say when
    """RESOURCE_EXHAUSTED."""


class RemoteUnavailableError(RemoteError, ExternalServiceError):
    """UNAVAILABLE."""


class RemoteTimeoutError(RemoteError, TimeoutError):
    """DEADLINE_EXCEEDED."""


class RemoteFailure(RemoteError, AppException):  # noqa: N818  # told apart from RemoteError, the root
    """Any other status."""


class CircuitOpenError(RemoteUnavailableError):
    """Nothing was sent: the target has failed too often of late. `retry_after` says when it will be tried again."""


class ConnectionFailedError(RemoteUnavailableError):
    """Nothing was sent: there is no connection to the target, and `cause` says why."""

    cause: str = ""
    """One of the names of `grpc_common.client.probe.Cause`."""


class DeadlineSpentError(RemoteTimeoutError):
    """Nothing was sent: the time of the call, or of the call it is made for, was over before it began."""


_CLASSES: Final[dict[StatusCode, type[RemoteError]]] = {
    StatusCode.INVALID_ARGUMENT: RemoteValidationError,
    StatusCode.NOT_FOUND: RemoteNotFoundError,
    StatusCode.UNAUTHENTICATED: RemoteUnauthorizedError,
    StatusCode.PERMISSION_DENIED: RemoteForbiddenError,
    StatusCode.ALREADY_EXISTS: RemoteConflictError,
    StatusCode.FAILED_PRECONDITION: RemotePreconditionError,
    StatusCode.ABORTED: RemoteAbortedError,
    StatusCode.OUT_OF_RANGE: RemoteOutOfRangeError,
    StatusCode.RESOURCE_EXHAUSTED: RemoteRateLimitError,
    StatusCode.UNAVAILABLE: RemoteUnavailableError,
    StatusCode.DEADLINE_EXCEEDED: RemoteTimeoutError,
}
OURS: Final = "grpc_common.client"
"""The `domain` of errors that no server has sent."""


def make_error[E: RemoteError](
    cls: type[E],
    status: StatusCode,
    message: str,
    *,
    method: str,
    reason: str = "",
    domain: str = "",
    metadata: Mapping[str, str] | None = None,
    field: str = "",
    violations: Sequence[FieldViolation] = (),
    retry_after: float | None = None,
    details: str | None = None,
    headers: Trailers = (),
    trailers: Trailers = (),
    debug: str = "",
    attempts: int = 0,
) -> E:
    """Return an error of that class, whose constructor its two parents do not agree about."""
    error = cls.__new__(cls, message)
    error.args = (message,)
    error.status, error.message, error.method = status, message, method
    error.reason, error.domain = reason or status.name, domain
    error.metadata, error.field, error.violations = dict(metadata or {}), field, tuple(violations)
    error.retry_after, error.trailers, error.debug, error.attempts = retry_after, trailers, debug, attempts
    error.headers = headers
    error._details = message if details is None else details  # noqa: SLF001  # our own
    return error


def own_error[E: RemoteError](
    cls: type[E], status: StatusCode, message: str, *, method: str, reason: str, retry_after: float | None = None
) -> E:
    """Return an error that no server has sent; its trailers say so in the standard form."""
    packed = status_pb2.Status(code=status.value[0], message=message)
    packed.details.add().Pack(error_details_pb2.ErrorInfo(reason=reason, domain=OURS))
    if (delay := retry_delay(retry_after)) is not None:
        packed.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=delay))
    trailers = ((STATUS_KEY, packed.SerializeToString()),)
    return make_error(
        cls, status, message, method=method, reason=reason, domain=OURS, retry_after=retry_after, trailers=trailers
    )


def remote_error(
    status: StatusCode,
    details: str,
    *,
    method: str,
    headers: Trailers = (),
    trailers: Trailers = (),
    debug: str = "",
    attempts: int = 1,
) -> RemoteError:
    """Return the error for a status that a server, or gRPC core, has ended a call with; never raises.

    Details that do not parse are left out: whoever answers need not be of this library, nor well-meaning.
    """
    found = Details(trailers)
    return make_error(
        _CLASSES.get(status, RemoteFailure),
        status,
        details or status.name.lower().replace("_", " "),
        method=method,
        reason=found.reason,
        domain=found.domain,
        metadata=found.metadata,
        field=found.field or (found.violations[0].field if found.violations else ""),
        violations=found.violations,
        retry_after=found.retry_after,
        details=details,
        headers=headers,
        trailers=trailers,
        debug=debug,
        attempts=attempts,
    )


class Details:
    """What the trailers tell of an error: `grpc-status-details-bin` (AIP-193), then our own `error-detail-bin`."""

    __slots__ = ("domain", "field", "metadata", "reason", "retry_after", "violations")

    def __init__(self, trailers: Trailers) -> None:
        self.reason = self.domain = self.field = ""
        self.metadata: dict[str, str] = {}
        self.violations: tuple[FieldViolation, ...] = ()
        self.retry_after: float | None = None
        for key, value in trailers:
            if not isinstance(value, bytes):
                continue
            try:
                if key == STATUS_KEY:
                    self._read_status(value)
                elif key == DETAIL_KEY:
                    self._read_detail(value)
            except DecodeError:
                continue

    def _read_status(self, data: bytes) -> None:
        for packed in status_pb2.Status.FromString(data).details:
            if packed.Unpack(info := error_details_pb2.ErrorInfo()):
                self.reason, self.domain, self.metadata = info.reason, info.domain, dict(info.metadata)
            elif packed.Unpack(bad := error_details_pb2.BadRequest()):
                violations = (FieldViolation(each.field, each.description) for each in bad.field_violations)
                self.violations = tuple(violations)
            elif packed.Unpack(retry := error_details_pb2.RetryInfo()):
                self.retry_after = max(0.0, retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9)

    def _read_detail(self, data: bytes) -> None:
        detail = errors_pb2.ErrorDetail.FromString(data)
        self.reason = self.reason or detail.code
        self.field = detail.field
        self.metadata = self.metadata or dict(detail.metadata)


def as_trailers(metadata: Any) -> Trailers:
    """Return metadata of grpc.aio as plain pairs."""
    return tuple((str(key), value) for key, value in metadata or ())
