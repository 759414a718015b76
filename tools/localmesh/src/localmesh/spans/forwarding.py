"""Spans go on to a collector of the developer's own."""

import asyncio
import contextlib
from typing import Final

import grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import TraceServiceStub

from localmesh import screen

WITHIN: Final = 10.0
"""Seconds that a collector has to take a batch."""
FLUSH_WITHIN: Final = 2.0
MOST_WAITING: Final = 256
"""Batches; what comes while as many wait is not sent on."""
# A collector is no page of the web: variables about proxies are not meant for it.
OPTIONS: Final = (("grpc.enable_http_proxy", 0),)


class Forwarding:
    """Sends what services and Envoys report on to `target`, HOST:PORT, by OTLP over gRPC, in the clear.

    It holds up nobody: a collector that is slow or not there costs spans, which is told once.
    """

    def __init__(self, target: str) -> None:
        self._target = target
        self._waiting: asyncio.Queue[ExportTraceServiceRequest] = asyncio.Queue(MOST_WAITING)
        self._sending: asyncio.Task[None] | None = None
        self._lost = 0

    def start(self) -> None:
        """Begins to send."""
        self._sending = asyncio.create_task(self._send_all(), name="forwarding spans")

    def put(self, request: ExportTraceServiceRequest) -> None:
        """Takes a batch, to be sent soon."""
        try:
            self._waiting.put_nowait(request)
        except asyncio.QueueFull:
            self._lose("it is too slow")

    async def stop(self) -> None:
        """Sends what waits, for a moment at most."""
        if self._sending is None:
            return
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._waiting.join(), FLUSH_WITHIN)
        self._sending.cancel()
        await asyncio.wait([self._sending])

    async def _send_all(self) -> None:
        async with grpc.aio.insecure_channel(self._target, options=OPTIONS) as channel:
            stub = TraceServiceStub(channel)  # type: ignore[no-untyped-call]
            while True:
                batch = await self._waiting.get()
                try:
                    await stub.Export(batch, timeout=WITHIN)
                except grpc.aio.AioRpcError as error:
                    self._lose(f"{error.code().name}: {error.details()}")
                else:
                    self._found()
                finally:
                    self._waiting.task_done()

    def _lose(self, why: str) -> None:
        self._lost += 1
        if self._lost == 1:
            screen.complain(f"spans do not reach the collector at {self._target}: {why}")

    def _found(self) -> None:
        if self._lost:
            screen.complain(f"spans reach the collector at {self._target} again; {self._lost} batches are lost")
            self._lost = 0
