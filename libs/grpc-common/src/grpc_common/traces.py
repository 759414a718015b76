"""The process's tracing: what is sampled, and where spans are sent."""

import os
import socket
import threading
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_INSTANCE_ID, SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import Tracer

from grpc_common.loopback import NO_PROXY, is_loopback
from grpc_common.sampling import CallersChoice, ForetoldIds
from grpc_common.span_attributes import SCHEMA

SCOPE: Final = "grpc_common"
_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")


class Tracing:
    """Makes spans, samples `ratio` of the traces that begin here, and sends them to `exporter` in batches.

    A caller's decision to sample is followed. Without an exporter no trace that begins here is recorded, and calls have
    trace ids all the same, in logs, in error details and on to the services they call.
    """

    def __init__(
        self,
        service: str,
        *,
        ratio: float = 1.0,
        exporter: SpanExporter | None = None,
        version: str = "",
        instance: str = "",
    ) -> None:
        resource = Resource.create(
            {
                SERVICE_NAME: service,
                SERVICE_VERSION: version or "unknown",
                SERVICE_INSTANCE_ID: instance or f"{socket.gethostname()}-{os.getpid()}",
            }
        )
        self.provider: Final = TracerProvider(
            sampler=CallersChoice(ratio if exporter is not None else 0.0),
            id_generator=ForetoldIds(),
            resource=resource,
            shutdown_on_exit=False,
        )
        if exporter is not None:
            self.provider.add_span_processor(BatchSpanProcessor(exporter))

    @property
    def tracer(self) -> Tracer:
        """The tracer for calls, theirs and ours."""
        return self.provider.get_tracer(SCOPE, schema_url=SCHEMA)

    def close(self, timeout: float = 3.0) -> bool:
        """Send what waits, for at most `timeout` seconds; say whether that was enough."""
        # The SDK's own bounds end with the exporter's retries; a thread that nobody waits for ends with the process.
        closing = threading.Thread(target=self.provider.shutdown, name="tracing-close", daemon=True)
        closing.start()
        closing.join(timeout)
        return not closing.is_alive()


def configure_tracing(
    service: str,
    *,
    ratio: float = 1.0,
    endpoint: str | None = None,
    version: str = "",
    instance: str = "",
    environ: Mapping[str, str] | None = None,
) -> Tracing:
    """Set up tracing for this process, with an OTLP exporter over gRPC where there is an endpoint.

    That is a URL: `http://localhost:4317` sends in the clear, `https://` over TLS, with the certificates that
    OTEL_EXPORTER_OTLP_CERTIFICATE names. `endpoint` wins over the standard variables, OTEL_SERVICE_NAME over `service`.
    """
    environ = os.environ if environ is None else environ
    found = endpoint_of(endpoint, environ)
    exporter = exporter_to(found) if found else None
    name = environ.get("OTEL_SERVICE_NAME") or service
    tracing = Tracing(name, ratio=ratio, exporter=exporter, version=version, instance=instance)
    # For libraries that ask the process for a tracer; our own parts are handed theirs.
    trace.set_tracer_provider(tracing.provider)
    return tracing


def endpoint_of(endpoint: str | None, environ: Mapping[str, str]) -> str | None:
    """Return where spans are to be sent, or None when they are not."""
    if environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return None
    return endpoint or next((environ[name] for name in _ENDPOINTS if environ.get(name)), None)


def exporter_to(endpoint: str) -> SpanExporter:
    """Return an exporter that speaks OTLP over gRPC to `endpoint`, by no proxy where that is on this machine."""
    local = is_loopback(urlsplit(endpoint if "//" in endpoint else f"//{endpoint}").hostname or "")
    options: Any = (NO_PROXY,) if local else None  # its type knows no numbers
    return OTLPSpanExporter(endpoint=endpoint, channel_options=options)
