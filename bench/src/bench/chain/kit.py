"""grpc-server-kit's own chain, in its canonical order; it has no authentication."""

from grpc import aio
from grpc_server_kit.aio.interceptors import (
    AsyncContextInterceptor,
    AsyncExceptionHandlerInterceptor,
    AsyncMetricsInterceptor,
    AsyncRequestLoggerInterceptor,
    AsyncTracingInterceptor,
    HeaderConfig,
)
from grpc_server_kit.observability.metrics import get_grpc_server_metrics
from opentelemetry.sdk.trace import TracerProvider

SERVICE = "meshwork.items.v1.ItemService"


def interceptors(provider: TracerProvider) -> list[aio.ServerInterceptor]:
    """Return the chain, outermost first."""
    return [
        AsyncMetricsInterceptor(metrics=get_grpc_server_metrics(), service_name=SERVICE),
        AsyncContextInterceptor([HeaderConfig("x-correlation-id", "correlation_id")]),
        AsyncRequestLoggerInterceptor(),
        AsyncTracingInterceptor(SERVICE, provider.get_tracer("bench")),
        AsyncExceptionHandlerInterceptor(),
    ]
