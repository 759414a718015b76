"""One JSON line per call on Envoy's standard output."""

from grpc import StatusCode

from localmesh.envoy.config import NOTES, Config, extension

NAMES = [status.name for status in sorted(StatusCode, key=lambda status: status.value[0])]
NOTED = f"metadata.filter_metadata['{NOTES}'].grpc_status"
GRPC_STATUS = (
    f"'{NOTES}' in metadata.filter_metadata && 'grpc_status' in metadata.filter_metadata['{NOTES}']"
    f" ? {NAMES}[int({NOTED})]"
    f" : 'grpc-status' in response.headers ? {NAMES}[int(response.headers['grpc-status'])]"
    f" : request.headers['content-type'].startsWith('application/grpc') ? {NAMES}[response.grpc_status] : ''"
)
"""As it was sent; of a call by REST, what the service said."""
PATH = (
    f"'{NOTES}' in metadata.filter_metadata && 'template' in metadata.filter_metadata['{NOTES}']"
    f" ? metadata.filter_metadata['{NOTES}'].template"
    f" : 'x-envoy-original-method' in request.headers && '{NOTES}' in xds.route_metadata.filter_metadata"
    f" ? xds.route_metadata.filter_metadata['{NOTES}'][request.headers['x-envoy-original-method']]"
    " : request.url_path"
)
"""The template of a REST path, for what is in its places may be about people."""
FIELDS = {
    "time": "%START_TIME%",
    "method": "%REQ(X-ENVOY-ORIGINAL-METHOD?:METHOD)%",
    "path": f"%CEL({PATH})%",
    "client": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
    "authority": "%REQ(:AUTHORITY)%",
    "status": "%RESPONSE_CODE%",
    "grpc_status": f"%CEL({GRPC_STATUS})%",
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
