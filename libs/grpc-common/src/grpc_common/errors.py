"""The errors a service raises, and the gRPC status each becomes.

AppException                INTERNAL
  ValidationError           INVALID_ARGUMENT
  NotFoundError             NOT_FOUND
  UnauthorizedError         UNAUTHENTICATED
  ForbiddenError            PERMISSION_DENIED
  ConflictError             ALREADY_EXISTS
  PreconditionError         FAILED_PRECONDITION
  AbortedError              ABORTED
  OutOfRangeError           OUT_OF_RANGE
  RateLimitError            RESOURCE_EXHAUSTED
  ExternalServiceError      UNAVAILABLE
  DatabaseError             INTERNAL
TimeoutError (built in)     DEADLINE_EXCEEDED
anything else               INTERNAL, and nothing of it is told

A service's own error is a subclass of the nearest of these with a `reason` of its own, or, where none is near, of
AppException with a `status`, too.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from grpc import StatusCode

_FAILURES: Final = frozenset(StatusCode) - {StatusCode.OK}


class AppException(Exception):  # noqa: N818  # the specification's name
    """An error whose message is meant for the caller: one sentence, without driver texts or secrets.

    `reason` is a stable upper-case name; a subclass may set a finer one (ITEM_LOCKED) and keeps its parent's status,
    unless it sets a `status` of its own. The client gets the library's class for that status, with that reason.
    `field` is the path of the request field at fault, `metadata` further facts; the caller sees both.
    """

    status: StatusCode = StatusCode.INTERNAL
    reason: str = "INTERNAL_ERROR"

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Refuse, by TypeError, a class whose status would tell nobody that the call failed."""
        super().__init_subclass__(**kwargs)
        if cls.status not in _FAILURES:
            raise TypeError(f"{cls.__name__}.status must be a grpc.StatusCode other than OK, not {cls.status!r}")

    def __init__(self, message: str, *, field: str = "", metadata: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.metadata = dict(metadata or {})


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One bad field: its path, such as `price` or `[17].name`, and what is wrong with it."""

    field: str
    message: str


class ValidationError(AppException):
    """The request is wrong whatever the state of the service; every violation is reported, the first one as `field`."""

    status = StatusCode.INVALID_ARGUMENT
    reason = "INVALID_ARGUMENT"

    def __init__(
        self,
        message: str = "",
        *,
        violations: Sequence[FieldViolation] = (),
        field: str = "",
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        if field and not violations:
            violations = (FieldViolation(field, message),)
        if not message:
            message = "; ".join(f"{violation.field}: {violation.message}" for violation in violations)
        first = violations[0].field if violations else ""
        super().__init__(message or "the request is not valid", field=field or first, metadata=metadata)
        self.violations = tuple(violations)


class NotFoundError(AppException):
    """The thing asked for does not exist."""

    status = StatusCode.NOT_FOUND
    reason = "NOT_FOUND"


class UnauthorizedError(AppException):
    """Nobody knows who is calling: the credentials are missing, expired or wrong."""

    status = StatusCode.UNAUTHENTICATED
    reason = "UNAUTHENTICATED"


class ForbiddenError(AppException):
    """The caller is known and may not do this."""

    status = StatusCode.PERMISSION_DENIED
    reason = "PERMISSION_DENIED"


class ConflictError(AppException):
    """Another thing already has this name or key."""

    status = StatusCode.ALREADY_EXISTS
    reason = "ALREADY_EXISTS"


class PreconditionError(AppException):
    """The request is right and the state of the service is not; somebody must change that before it is any use."""

    status = StatusCode.FAILED_PRECONDITION
    reason = "FAILED_PRECONDITION"


class AbortedError(AppException):
    """The thing changed since the caller read it (AIP-154: a stale etag); read again, then try again."""

    status = StatusCode.ABORTED
    reason = "ABORTED"


class OutOfRangeError(AppException):
    """What is asked for lies before the first or after the last that there is (a token too old); start anew."""

    status = StatusCode.OUT_OF_RANGE
    reason = "OUT_OF_RANGE"


class RateLimitError(AppException):
    """The caller asks for too much; it may come back after `retry_after` seconds."""

    status = StatusCode.RESOURCE_EXHAUSTED
    reason = "RATE_LIMITED"

    def __init__(
        self,
        message: str,
        *,
        retry_after: float = 1.0,
        field: str = "",
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message, field=field, metadata=metadata)
        self.retry_after = retry_after


class ExternalServiceError(AppException):
    """Something the service depends on is out of reach (a lost connection, an exhausted pool); later may be better."""

    status = StatusCode.UNAVAILABLE
    reason = "EXTERNAL_SERVICE_ERROR"


class DatabaseError(AppException):
    """The database did not do what it must; trying again is no use."""

    reason = "DATABASE_ERROR"


ERROR_STATUS_MAP: Final[dict[type[AppException], StatusCode]] = {
    error: error.status
    for error in (
        ValidationError,
        NotFoundError,
        UnauthorizedError,
        ForbiddenError,
        ConflictError,
        PreconditionError,
        AbortedError,
        OutOfRangeError,
        RateLimitError,
        ExternalServiceError,
        DatabaseError,
    )
}
"""The status of each error class of the library."""

INTERNAL_MESSAGE: Final = "internal error"
TIMEOUT_MESSAGE: Final = "the call took longer than it may"


def exception_to_status(exc: BaseException) -> tuple[StatusCode, str]:
    """Return the status and the text a caller gets for `exc`; an exception nobody planned for gives nothing away."""
    if isinstance(exc, AppException):
        return type(exc).status, exc.message
    if isinstance(exc, TimeoutError):
        return StatusCode.DEADLINE_EXCEEDED, TIMEOUT_MESSAGE
    return StatusCode.INTERNAL, INTERNAL_MESSAGE
