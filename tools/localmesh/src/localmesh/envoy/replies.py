"""How Envoy words what it refuses itself: gRPC gets a status, REST the JSON that services answer with."""

from localmesh.envoy.config import Config, extension

JWT_REFUSED = 'response.code_details.startsWith("jwt_authn_access_denied")'
NO_KEYS = 'response.code_details.startsWith("jwt_authn_access_denied{Jwks_remote_fetch")'
BAD_REQUEST = "response.code == 400"
RATE_LIMITED = "response.code == 429"
GRPC_CONTENT = '("content-type" in request.headers && request.headers["content-type"].startsWith("application/grpc"))'
REST = f'("x-envoy-original-path" in request.headers || !{GRPC_CONTENT})'
"""The transcoder turns a request into gRPC, and leaves the path it had."""

UNAUTHENTICATED, UNAVAILABLE, INVALID_ARGUMENT, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED = 16, 14, 3, 4, 8
OUT_OF_TIME = {"response_flag_filter": {"flags": ["UT"]}}


def deadline_replies() -> Config:
    """A route's timeout is DEADLINE_EXCEEDED, not the UNAVAILABLE that Envoy says of it, which clients repeat."""
    return {"mappers": [_deadline()]}


def local_replies() -> Config:
    """A token that does not do is a 401 and UNAUTHENTICATED, also where Envoy alone says 403 (a foreign audience).

    One that cannot be judged, for there never were keys to judge it with, is a 503 and UNAVAILABLE.
    """
    return {
        "mappers": [
            _mapper(f"{NO_KEYS} && {REST}", status=503, code=UNAVAILABLE),
            _mapper(NO_KEYS, status=503),
            _mapper(f"{JWT_REFUSED} && {REST}", status=401, code=UNAUTHENTICATED),
            _mapper(JWT_REFUSED, status=401),
            _mapper(f"{BAD_REQUEST} && {REST}", status=400, code=INVALID_ARGUMENT),
            _mapper(f"{RATE_LIMITED} && {REST}", status=429, code=RESOURCE_EXHAUSTED),
            _deadline(),
        ]
    }


def _deadline() -> Config:
    header = {"header": {"key": "grpc-status", "value": str(DEADLINE_EXCEEDED)}}
    return {"filter": OUT_OF_TIME, "headers_to_add": [header | {"append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}]}


def _mapper(expression: str, *, status: int, code: int | None = None) -> Config:
    condition = extension(
        "envoy.access_loggers.extension_filters.cel",
        "access_loggers.filters.cel.v3.ExpressionFilter",
        expression=expression,
    )
    mapper: Config = {"filter": {"extension_filter": condition}, "status_code": status}
    if code is not None:
        body = {"code": code, "message": "%LOCAL_REPLY_BODY%", "details": []}
        mapper["body_format_override"] = {"json_format": body}
    return mapper
