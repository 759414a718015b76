"""How Envoy words what it refuses itself: gRPC gets a status, REST the JSON that services answer with."""

from collections.abc import Iterable, Iterator
from typing import Final

from grpc import StatusCode

from localmesh.envoy.config import NOTES, Config, extension
from localmesh.envoy.rest import MAX_BODY

NO_KEYS: Final = 'response.code_details.startsWith("jwt_authn_access_denied{Jwks_remote_fetch")'
JWT_REFUSED: Final = 'response.code_details.startsWith("jwt_authn_access_denied")'
GRPC: Final = (
    '("content-type" in request.headers && request.headers["content-type"].startsWith("application/grpc")'
    ' && !("x-envoy-original-path" in request.headers))'
)
"""The transcoder turns a request into gRPC, and leaves the path it had."""
FIELDS_NAMED: Final = f'"{NOTES}" in metadata.filter_metadata && "violations" in metadata.filter_metadata["{NOTES}"]'
REPLY_STATUS: Final = "x-reply-status"
"""Tells the filter `arrive` the status of an answer of Envoy's own to gRPC; it goes no further."""
OUT_OF_TIME: Final[Config] = {"response_flag_filter": {"flags": ["UT"]}}
ASK_AGAIN_AFTER: Final = 1
"""Seconds."""

ENVOYS_WORDS: Final = "%LOCAL_REPLY_BODY%"
REST_CODES: Final = {
    400: StatusCode.INVALID_ARGUMENT,
    401: StatusCode.UNAUTHENTICATED,
    403: StatusCode.PERMISSION_DENIED,
    404: StatusCode.NOT_FOUND,
    405: StatusCode.UNIMPLEMENTED,
    408: StatusCode.DEADLINE_EXCEEDED,
    412: StatusCode.ABORTED,
    413: StatusCode.RESOURCE_EXHAUSTED,
    414: StatusCode.INVALID_ARGUMENT,
    415: StatusCode.INVALID_ARGUMENT,
    426: StatusCode.FAILED_PRECONDITION,
    429: StatusCode.RESOURCE_EXHAUSTED,
    431: StatusCode.RESOURCE_EXHAUSTED,
    500: StatusCode.INTERNAL,
    501: StatusCode.UNIMPLEMENTED,
    502: StatusCode.UNAVAILABLE,
    503: StatusCode.UNAVAILABLE,
    504: StatusCode.DEADLINE_EXCEEDED,
}
"""What a status of Envoy's own means to callers of REST."""
GRPC_CODES: Final = {
    400: StatusCode.INTERNAL,
    401: StatusCode.UNAUTHENTICATED,
    403: StatusCode.PERMISSION_DENIED,
    404: StatusCode.UNIMPLEMENTED,
    405: StatusCode.UNIMPLEMENTED,
    429: StatusCode.RESOURCE_EXHAUSTED,
    501: StatusCode.UNIMPLEMENTED,
    502: StatusCode.UNAVAILABLE,
    503: StatusCode.UNAVAILABLE,
    504: StatusCode.UNAVAILABLE,
}
"""And to callers of gRPC: as its document http-grpc-status-mapping.md has it, but for 405, 429 and 501, of which we
know more."""
EXPLAINED: Final = {
    404: "there is no such path",
    413: f"the body is larger than {MAX_BODY:,} bytes",
    503: "the service is not available",
}
"""What is said where Envoy says nothing, or more than a caller need know."""
WORDLESS: Final = {
    "path_normalization_failed": (400, StatusCode.INVALID_ARGUMENT, "this is no path of a URL"),
    "missing_host_header": (400, StatusCode.INVALID_ARGUMENT, "the header host is missing"),
    "upgrade_failed": (403, StatusCode.PERMISSION_DENIED, "a connection is not upgraded here"),
}
"""What is said where Envoy says nothing, by its code details, and where the status would not tell."""


def deadline_replies() -> Config:
    """A route's timeout is DEADLINE_EXCEEDED, not the UNAVAILABLE that Envoy says of it, which clients repeat."""
    status = [_header("grpc-status", str(_number(StatusCode.DEADLINE_EXCEEDED)))]
    return {"mappers": [{"filter": OUT_OF_TIME, "headers_to_add": status}]}


def local_replies() -> Config:
    """A token that does not do is a 401 and UNAUTHENTICATED, also where Envoy alone says 403 (a foreign audience).

    One that cannot be judged, for there never were keys to judge it with, is a 503 and UNAVAILABLE. gRPC, and gRPC-Web
    just so, is told by its own status in an HTTP 200; REST by the status and JSON.
    """
    return {"mappers": [*_to_grpc(), *_to_rest()]}


def _to_grpc() -> Iterator[Config]:
    conditions = [
        (_cel(f"{GRPC} && {NO_KEYS}"), StatusCode.UNAVAILABLE),
        (_cel(f"{GRPC} && {JWT_REFUSED}"), StatusCode.UNAUTHENTICATED),
        ({"and_filter": {"filters": [_cel(GRPC), OUT_OF_TIME]}}, StatusCode.DEADLINE_EXCEEDED),
        *((_cel(f"{GRPC} && response.code == {status}"), code) for status, code in GRPC_CODES.items()),
        (_cel(GRPC), StatusCode.UNKNOWN),
    ]
    for condition, code in conditions:
        # twice, for the filter for gRPC-Web makes a status of its own of a body
        names = ("grpc-status", REPLY_STATUS)
        yield {"filter": condition, "headers_to_add": [_header(name, str(_number(code))) for name in names]}


def _to_rest() -> Iterator[Config]:
    yield _rest(_cel(NO_KEYS), 503, StatusCode.UNAVAILABLE)
    yield _rest(_cel(JWT_REFUSED), 401, StatusCode.UNAUTHENTICATED)
    fields = {
        "@type": "type.googleapis.com/google.rpc.BadRequest",
        "field_violations": f"%DYNAMIC_METADATA({NOTES}:violations)%",
    }
    yield _rest(_cel(FIELDS_NAMED), 400, StatusCode.INVALID_ARGUMENT, [fields])
    for details, (status, code, message) in WORDLESS.items():
        yield _rest(_cel(f'response.code_details == "{details}"'), status, code, message=message)
    for status, code in REST_CODES.items():
        yield _rest(_status(status), status, code, message=EXPLAINED.get(status, ENVOYS_WORDS))
    yield _rest(_status(0, "GE"), None, StatusCode.UNKNOWN)


def _rest(
    condition: Config,
    status: int | None,
    code: StatusCode,
    details: Iterable[Config] = (),
    *,
    message: str = ENVOYS_WORDS,
) -> Config:
    info = {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": code.name,
        "domain": "ingress",
        "metadata": {"trace_id": "%REQ(X-TRACE-ID)%", "correlation_id": "%REQ(X-CORRELATION-ID)%"},
    }
    body = {"code": _number(code), "message": message, "details": [info, *details]}
    headers = [_header("grpc-status", str(_number(code)))]
    if status in (429, 503):
        headers.append(_header("retry-after", str(ASK_AGAIN_AFTER)))
    mapper: Config = {
        "filter": condition,
        "headers_to_add": headers,
        "body_format_override": {"json_format": body, "omit_empty_values": True},
    }
    return mapper if status is None else mapper | {"status_code": status}


def _status(status: int, comparison: str = "EQ") -> Config:
    value = {"default_value": status, "runtime_key": "none"}
    return {"status_code_filter": {"comparison": {"op": comparison, "value": value}}}


def _cel(expression: str) -> Config:
    name = "envoy.access_loggers.extension_filters.cel"
    message = "access_loggers.filters.cel.v3.ExpressionFilter"
    return {"extension_filter": extension(name, message, expression=expression)}


def _header(key: str, value: str) -> Config:
    return {"header": {"key": key, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}


def _number(code: StatusCode) -> int:
    number: int = code.value[0]
    return number
