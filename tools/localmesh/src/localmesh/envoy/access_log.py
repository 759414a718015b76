"""One JSON line per call on Envoy's standard output."""

from localmesh.envoy.config import Config, extension

FIELDS = {
    "time": "%START_TIME%",
    "method": "%REQ(:METHOD)%",
    "path": "%PATH(NQ)%",
    "authority": "%REQ(:AUTHORITY)%",
    "status": "%RESPONSE_CODE%",
    "grpc_status": "%GRPC_STATUS%",
    "flags": "%RESPONSE_FLAGS%",
    "details": "%RESPONSE_CODE_DETAILS%",
    "duration_ms": "%DURATION%",
    "bytes_in": "%BYTES_RECEIVED%",
    "bytes_out": "%BYTES_SENT%",
    "attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
    "caller": "%DOWNSTREAM_PEER_URI_SAN%",
    "subject": "%DYNAMIC_METADATA(envoy.filters.http.jwt_authn:token:sub)%",
    "trace_id": "%TRACE_ID%",
    "request_id": "%REQ(X-REQUEST-ID)%",
    "upstream": "%UPSTREAM_HOST%",
    "upstream_failure": "%UPSTREAM_TRANSPORT_FAILURE_REASON%",
    "downstream_failure": "%DOWNSTREAM_TRANSPORT_FAILURE_REASON%",
}
"""No query, no header a secret could be in."""


def access_log() -> Config:
    """The log of a connection manager; the checks of other Envoys are not calls."""
    name = "envoy.access_loggers.stdout"
    message = "access_loggers.stream.v3.StdoutAccessLog"
    log = extension(name, message, log_format={"json_format": FIELDS})
    return log | {"filter": {"not_health_check_filter": {}}}
