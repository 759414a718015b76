"""What all calls of a factory have in common."""

from dataclasses import dataclass, field
from random import Random

from opentelemetry import trace
from opentelemetry.trace import Tracer
from prometheus_client import REGISTRY

from grpc_common.client.breaker import CircuitBreakerConfig
from grpc_common.client.client_metrics import ClientMetrics
from grpc_common.client.clock import CLOCK, Clock
from grpc_common.client.retry_config import RetryConfig


@dataclass(frozen=True, slots=True)
class Calling:
    """The defaults of calls, and whom they are told to."""

    default_timeout: float = 30.0
    retry: RetryConfig = field(default_factory=RetryConfig)
    breaker: CircuitBreakerConfig = field(default_factory=CircuitBreakerConfig)
    tracer: Tracer = field(default_factory=lambda: trace.get_tracer("grpc_common"))
    metrics: ClientMetrics = field(default_factory=lambda: ClientMetrics.of(REGISTRY))
    clock: Clock = CLOCK
    random: Random = field(default_factory=Random)
    """Draws the pauses; not for secrets."""
