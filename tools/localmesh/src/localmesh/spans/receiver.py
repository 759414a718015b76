"""Takes spans from the services and from the Envoys (OTLP over gRPC)."""

from collections.abc import Iterator

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as pb
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)

from localmesh import ports
from localmesh.failure import MeshError
from localmesh.spans.forwarding import Forwarding
from localmesh.spans.span import Span
from localmesh.spans.store import Spans

SERVICE_NAME = "service.name"


class Receiver(TraceServiceServicer):
    """A gRPC server on a port of the loopback address that puts all spans into a store, and sends them on."""

    def __init__(self, spans: Spans, port: int, collector: str | None = None) -> None:
        self.port = port
        self._spans = spans
        self._forwarding = Forwarding(collector) if collector else None
        self._server: grpc.aio.Server | None = None

    async def Export(  # noqa: N802 - the proto's name
        self,
        request: pb.ExportTraceServiceRequest,
        context: grpc.aio.ServicerContext,  # type: ignore[type-arg]  # noqa: ARG002
    ) -> pb.ExportTraceServiceResponse:
        """Takes spans in."""
        self._spans.add(_spans(request))
        if self._forwarding is not None:
            self._forwarding.put(request)
        return pb.ExportTraceServiceResponse()

    async def start(self) -> None:
        """Begins to listen."""
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        add_TraceServiceServicer_to_server(self, self._server)  # type: ignore[no-untyped-call]
        try:
            self._server.add_insecure_port(f"{ports.LOOPBACK}:{self.port}")
        except RuntimeError as error:
            raise MeshError(f"port {self.port} for spans is taken by {ports.owner(self.port)}") from error
        await self._server.start()
        if self._forwarding is not None:
            self._forwarding.start()

    async def stop(self) -> None:
        """Listens no more."""
        if self._server is not None:
            await self._server.stop(None)
        if self._forwarding is not None:
            await self._forwarding.stop()


def _spans(request: pb.ExportTraceServiceRequest) -> Iterator[Span]:
    for resource in request.resource_spans:
        names = (each.value.string_value for each in resource.resource.attributes if each.key == SERVICE_NAME)
        service = next(names, "unknown")
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield Span.of(service, span)
