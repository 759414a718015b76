"""What web pages need of the ingress: gRPC-Web, and leave to call across origins (CORS)."""

from collections.abc import Sequence

from localmesh.envoy.config import Config, extension, typed

CORS = "envoy.filters.http.cors"
ASKED = (
    "authorization",
    "content-type",
    "grpc-timeout",
    "traceparent",
    "x-correlation-id",
    "x-grpc-web",
    "x-user-agent",
)
TOLD = ("error-detail-bin", "grpc-message", "grpc-status", "grpc-status-details-bin", "x-correlation-id")
ASK_AGAIN_AFTER = 600


def browser_filters() -> list[Config]:
    """CORS first: what any other filter refuses must be readable for the page, too."""
    return [
        extension(CORS, "filters.http.cors.v3.Cors"),
        extension("envoy.filters.http.grpc_web", "filters.http.grpc_web.v3.GrpcWeb"),
    ]


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
