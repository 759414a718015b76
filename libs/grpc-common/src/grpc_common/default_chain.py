"""The order of the interceptors, with the reason for each place."""

import time
from collections.abc import Callable

from opentelemetry.trace import Tracer
from prometheus_client import REGISTRY, CollectorRegistry

from grpc_common.chain import Chain, Interceptor
from grpc_common.interceptors.auth import AuthInterceptor
from grpc_common.interceptors.concurrency import ConcurrencyLimitInterceptor
from grpc_common.interceptors.deadline import DeadlineInterceptor
from grpc_common.interceptors.error import ErrorInterceptor
from grpc_common.interceptors.logging import LoggingInterceptor
from grpc_common.interceptors.metrics import MetricsInterceptor
from grpc_common.interceptors.payload import PayloadInterceptor
from grpc_common.interceptors.rate_limit import RateLimitInterceptor
from grpc_common.interceptors.tracing import TracingInterceptor
from grpc_common.interceptors.validation import ValidationInterceptor
from grpc_common.jwt_service import JWTService
from grpc_common.revocations import Revocations

MAX_CONCURRENT_RPCS = 100


def default_interceptors(
    *,
    max_concurrent_rpcs: int = MAX_CONCURRENT_RPCS,
    jwt_service: JWTService | None = None,
    revocations: Revocations | None = None,
    tracer: Tracer | None = None,
    registry: CollectorRegistry = REGISTRY,
    log_payloads: bool = False,
    behind_mesh: bool = False,
    clock: Callable[[], float] = time.time,
) -> list[Interceptor]:
    """Return the interceptors every service has, outermost first; without `jwt_service` nobody is asked for a token.

    `behind_mesh` none but our own sidecar connects from a loopback address, and it is believed whose calls it brings.
    `clock` gives the Unix seconds by which tokens end during a call. The context of the call
    (`grpc_common.call.current_call`) is there before any of them.
    """
    return [
        # Around all that is worth a place in the trace; the lines of the log and the exemplars name its span.
        TracingInterceptor(tracer),
        # Around all that may refuse or fail: it counts the status the caller is really sent.
        MetricsInterceptor(registry),
        # Inside of the span, whose id it writes; around all that may refuse or fail, as the metrics are.
        LoggingInterceptor(),
        # Inside of those that observe, which could not tell what an exception becomes; around all that raises.
        ErrorInterceptor(),
        # Before anything costs more than a comparison: a server with too much to do must refuse cheaply.
        ConcurrencyLimitInterceptor(max_concurrent_rpcs),
        # Before anything waits: fetching keys, the handler and whatever it calls all draw on the call's budget.
        DeadlineInterceptor(),
        # Before the request is parsed, and before anything tells a stranger whether a thing exists (AIP-211).
        *([AuthInterceptor(jwt_service, revocations=revocations, clock=clock)] if jwt_service is not None else []),
        # After auth, because it counts per principal.
        RateLimitInterceptor(behind_mesh=behind_mesh),
        # After all that could refuse the call without reading it; before validation, to show what that refuses.
        *([PayloadInterceptor()] if log_payloads else []),
        # Right before the handler, which sees no message that the proto's constraints do not allow.
        ValidationInterceptor(),
    ]


def default_chain() -> Chain:
    """Return the chain every service has."""
    return Chain(default_interceptors())
