"""The errors a service raises, and the gRPC status each becomes.

AppException                INTERNAL
  ValidationError           INVALID_ARGUMENT
  NotFoundError             NOT_FOUND
  UnauthorizedError         UNAUTHENTICATED
  ForbiddenError            PERMISSION_DENIED
  ConflictError             ALREADY_EXISTS
  AbortedError              ABORTED
  OutOfRangeError           OUT_OF_RANGE
  RateLimitError            RESOURCE_EXHAUSTED
  ExternalServiceError      UNAVAILABLE
  DatabaseError             INTERNAL
TimeoutError (built in)     DEADLINE_EXCEEDED
anything else               INTERNAL, and nothing of it is told
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from grpc import StatusCode


class AppException(Exception):  # noqa: N818  # the specification's name
    """An error whose message is meant for the caller: one sentence, without driver texts or secrets.

    `reason` is a stable upper-case name; a subclass may set a finer one (ITEM_LOCKED) and keeps its parent's status.
    `field` is the path of the request field at fault, `metadata` further facts; the caller sees both.
    """

    reason: str = "INTERNAL_ERROR"

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

    reason = "NOT_FOUND"


class UnauthorizedError(AppException):
    """Nobody knows who is calling: the credentials are missing, expired or wrong."""

    reason = "UNAUTHENTICATED"


class ForbiddenError(AppException):
    """The caller is known and may not do this."""

    reason = "PERMISSION_DENIED"


class ConflictError(AppException):
    """Another thing already has this name or key."""

    reason = "ALREADY_EXISTS"


class AbortedError(AppException):
    """The thing changed since the caller read it (AIP-154: a stale etag); read again, then try again."""

    reason = "ABORTED"


class OutOfRangeError(AppException):
    """What is asked for lies before the first or after the last that there is (a token too old); start anew."""

    reason = "OUT_OF_RANGE"


class RateLimitError(AppException):
    """The caller asks for too much; it may come back after `retry_after` seconds."""

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

    reason = "EXTERNAL_SERVICE_ERROR"


class DatabaseError(AppException):
    """The database did not do what it must; trying again is no use."""

    reason = "DATABASE_ERROR"


ERROR_STATUS_MAP: Final[dict[type[AppException], StatusCode]] = {
    ValidationError: StatusCode.INVALID_ARGUMENT,
    NotFoundError: StatusCode.NOT_FOUND,
    UnauthorizedError: StatusCode.UNAUTHENTICATED,
    ForbiddenError: StatusCode.PERMISSION_DENIED,
    ConflictError: StatusCode.ALREADY_EXISTS,
    AbortedError: StatusCode.ABORTED,
    OutOfRangeError: StatusCode.OUT_OF_RANGE,
    RateLimitError: StatusCode.RESOURCE_EXHAUSTED,
    ExternalServiceError: StatusCode.UNAVAILABLE,
    DatabaseError: StatusCode.INTERNAL,
}
"""The status of each error class; a subclass has the status of its nearest ancestor here."""

INTERNAL_MESSAGE: Final = "internal error"
TIMEOUT_MESSAGE: Final = "the call took longer than it may"


def exception_to_status(exc: BaseException) -> tuple[StatusCode, str]:
    """Return the status and the text a caller gets for `exc`; an exception nobody planned for gives nothing away."""
    if isinstance(exc, AppException):
        for ancestor in type(exc).__mro__:
            if (status := ERROR_STATUS_MAP.get(ancestor)) is not None:
                return status, exc.message
        return StatusCode.INTERNAL, exc.message
    if isinstance(exc, TimeoutError):
        return StatusCode.DEADLINE_EXCEEDED, TIMEOUT_MESSAGE
    return StatusCode.INTERNAL, INTERNAL_MESSAGE
