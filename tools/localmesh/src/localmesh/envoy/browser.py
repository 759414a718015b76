"""What web pages need of the ingress: gRPC-Web, and leave to call across origins (CORS)."""

from collections.abc import Sequence

from localmesh.envoy.config import Config, extension, typed

CORS = "envoy.filters.http.cors"
ASKED = (
    "authorization",
    "baggage",
    "connect-protocol-version",
    "connect-timeout-ms",
    "content-type",
    "grpc-accept-encoding",
    "grpc-encoding",
    "grpc-timeout",
    "if-match",
    "traceparent",
    "tracestate",
    "x-correlation-id",
    "x-grpc-web",
    "x-request-id",
    "x-user-agent",
)
"""What the clients for pages send: gRPC-Web, Connect, OpenTelemetry, and REST with etags."""
TOLD = (
    "accept-encoding",
    "error-detail-bin",
    "grpc-message",
    "grpc-status",
    "grpc-status-details-bin",
    "next-page-token",
    "retry-after",
    "www-authenticate",
    "x-correlation-id",
    "x-request-id",
    "x-trace-id",
)
ASK_AGAIN_AFTER = 600


def cors_filter() -> Config:
    """Goes first: what any other filter refuses must be readable for the page, too."""
    return extension(CORS, "filters.http.cors.v3.Cors")


def grpc_web() -> Config:
    """Makes gRPC-Web gRPC."""
    return extension("envoy.filters.http.grpc_web", "filters.http.grpc_web.v3.GrpcWeb")


def cors(origins: Sequence[str]) -> Config:
    """What a virtual host allows to pages of these origins: tokens come in a header, never in a cookie."""
    policy = typed(
        "envoy.extensions.filters.http.cors.v3.CorsPolicy",
        allow_origin_string_match=[{"safe_regex": {"regex": origin}} for origin in origins],
        allow_methods="GET, POST, PUT, PATCH, DELETE",
        allow_headers=", ".join(ASKED),
        expose_headers=", ".join(TOLD),
        max_age=str(ASK_AGAIN_AFTER),
    )
    return {CORS: policy}
