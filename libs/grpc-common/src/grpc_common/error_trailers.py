"""The trailers that carry an error's details.

`error-detail-bin` holds a meshwork.common.v1.ErrorDetail, `grpc-status-details-bin` a google.rpc.Status (AIP-193) with
ErrorInfo, BadRequest and RetryInfo.
"""

from collections.abc import Mapping
from typing import Final

from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc import StatusCode

from grpc_common.bearable_wait import bearable_wait
from grpc_common.errors import AppException, ValidationError
from meshwork.common.v1 import errors_pb2

DETAIL_KEY: Final = "error-detail-bin"
STATUS_KEY: Final = "grpc-status-details-bin"

# All metadata of a reply shares `metadata_size.MAX_REPLY`, and core may lose the whole status above.
MAX_TEXT: Final = 512
MAX_DETAIL: Final = 1024
MAX_STATUS: Final = 2048

type Trailers = tuple[tuple[str, bytes], ...]


def error_trailers(
    exception: BaseException,
    status: StatusCode,
    message: str,
    *,
    domain: str,
    facts: Mapping[str, str],
) -> Trailers:
    """Return both trailers. `domain` says whose reasons these are; `facts` join the error's own metadata."""
    known = exception if isinstance(exception, AppException) else None
    code = error_code(exception, status)
    told = {clip(key, 64): clip(value, MAX_TEXT) for key, value in (known.metadata if known else {}).items()}
    metadata = {**facts, **told, **facts}  # the facts come first: of what is too much, the last is left out
    detail = _detail(code, message, known.field if known else "", metadata)
    packed = status_pb2.Status(code=_number(status), message=clip(message, MAX_TEXT))
    _add(packed, error_details_pb2.ErrorInfo(reason=code, domain=domain, metadata=detail.metadata))
    if (delay := retry_delay(getattr(known, "retry_after", None))) is not None:
        _add(packed, error_details_pb2.RetryInfo(retry_delay=delay))
    if isinstance(known, ValidationError) and known.violations:
        _add(packed, _bad_request(known, MAX_STATUS - packed.ByteSize()))
    return (DETAIL_KEY, detail.SerializeToString()), (STATUS_KEY, packed.SerializeToString())


def retry_delay(seconds: object) -> duration_pb2.Duration | None:
    """Return `seconds` as they can be waited; None where they are no number."""
    if (bounded := bearable_wait(seconds)) is None:
        return None
    delay = duration_pb2.Duration()
    delay.FromNanoseconds(int(bounded * 1e9))
    return delay


def error_details(error: AppException) -> list[errors_pb2.ErrorDetail]:
    """Return the error for a reply that reports errors of its parts: one detail for each bad field, or just one."""
    code = clip(error.reason, 64)
    if isinstance(error, ValidationError) and error.violations:
        return [_detail(code, violation.message, violation.field, {}) for violation in error.violations]
    return [_detail(code, error.message, error.field, error.metadata)]


def error_code(exception: BaseException, status: StatusCode) -> str:
    """Return the stable code: the error's own, or that of its status where the exception is none of ours."""
    if isinstance(exception, AppException):
        return clip(exception.reason, 64)
    return AppException.reason if status is StatusCode.INTERNAL else status.name


def clip(text: str, limit: int) -> str:
    """Return `text` as far as it fits into `limit` bytes of UTF-8, with an ellipsis where it was cut."""
    data = str(text).encode("utf-8", "replace")
    if len(data) <= limit:
        return data.decode()
    return data[: limit - 3].decode("utf-8", "ignore") + "…"


def _detail(code: str, message: str, field: str, metadata: Mapping[str, str]) -> errors_pb2.ErrorDetail:
    detail = errors_pb2.ErrorDetail(code=code, message=clip(message, MAX_TEXT), field=clip(field, 256))
    for key, value in metadata.items():
        _add_fact(detail, key, value)
    return detail


def _add_fact(detail: errors_pb2.ErrorDetail, key: str, value: str) -> None:
    detail.metadata[key] = value
    if detail.ByteSize() > MAX_DETAIL:
        del detail.metadata[key]


def _bad_request(error: ValidationError, room: int) -> error_details_pb2.BadRequest:
    bad = error_details_pb2.BadRequest()
    for violation in error.violations:
        bad.field_violations.add(field=clip(violation.field, 256), description=clip(violation.message, 256))
        if bad.ByteSize() > room - 64:  # what packing it into the status adds
            del bad.field_violations[-1]
            break
    return bad


def _add(status: status_pb2.Status, detail: Message) -> None:
    packed = any_pb2.Any()
    packed.Pack(detail)
    status.details.append(packed)


def _number(status: StatusCode) -> int:
    number: int = code_pb2.Code.Value(status.name)
    return number
