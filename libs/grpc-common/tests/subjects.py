"""What the conformance matrix is run over: each interceptor alone, and the whole chain in both its forms."""

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry

from grpc_common.chain import Chain
from grpc_common.conformance import observers
from grpc_common.conformance.subject import Subject
from grpc_common.default_chain import default_interceptors
from grpc_common.interceptors.concurrency import ConcurrencyLimitInterceptor
from grpc_common.jwt_service import refusal
from grpc_common.principal import Principal
from matrix_service import SERVICE

ALONE = (
    "Tracing", "Metrics", "Logging", "Error", "ConcurrencyLimit", "Deadline", "Auth", "RateLimit", "Payload",
    "Validation",
)  # fmt: skip
WHOLE = ("chain", "stacked")


class Doorman:
    """A JWTService that knows one token, and remembers none."""

    def cached(self, token):
        return None

    async def verify(self, token):
        if token != "editor":
            raise refusal("malformed", "not you")
        return Principal(subject="ann", issuer="test", expires_at=float("inf"), roles=frozenset({"editor"}))


def subject_of(name, entries=None, tamper=lambda chain: chain):
    """Return the interceptor of that name, or the whole chain, observed where there are `entries` of the log."""
    registry, exporter = CollectorRegistry(), InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    if entries is not None:
        provider.add_span_processor(SimpleSpanProcessor(exporter))
    chain = default_interceptors(
        jwt_service=Doorman(), tracer=provider.get_tracer("test"), registry=registry, log_payloads=True
    )
    if name not in WHOLE:
        chain = [each for each in chain if type(each).__name__ == f"{name}Interceptor"]
    chain = tamper(chain)
    found = {
        "Tracing": {"spans": observers.finished_spans(exporter)},
        "Metrics": {"started": observers.calls_started(registry), "handled": observers.calls_handled(registry)},
        "Logging": {"access log": observers.access_lines(entries)},
        "Error": {"failure log": observers.failure_reports(entries)},
    }
    gauges = {"in flight": lambda: observers.calls_in_flight(registry)}
    for each in chain:
        if isinstance(each, ConcurrencyLimitInterceptor):
            gauges["running"] = lambda limit=each: limit.running
    return Subject(
        interceptors=[Chain(chain)] if name == "chain" else chain,
        maps_errors=name in ("Error", *WHOLE),
        closes_handlers=True,
        observers={
            key: value
            for at, those in found.items()
            if entries is not None and name in (at, *WHOLE)
            for key, value in those.items()
        },
        gauges=gauges,
        metadata=(("authorization", "Bearer editor"),),
        service=SERVICE,
    )
