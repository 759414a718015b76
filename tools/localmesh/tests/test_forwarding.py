"""Spans are sent on, and nobody waits for that."""

import asyncio
import time

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as pb
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc

from localmesh import ports
from localmesh.spans import forwarding
from localmesh.spans.receiver import Receiver
from localmesh.spans.store import Spans

PATIENCE = 20.0


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Keeps what it is sent; takes as long for it as it is told to."""

    def __init__(self):
        self.names = []
        self.goes_on = asyncio.Event()
        self.goes_on.set()

    async def Export(self, request, context):
        await self.goes_on.wait()
        self.names += [span.name for given in request.resource_spans for span in given.scope_spans[0].spans]
        return pb.ExportTraceServiceResponse()

    async def start(self, port):
        server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(self, server)
        server.add_insecure_port(f"127.0.0.1:{port}")
        await server.start()
        return server


def batch(name):
    request = pb.ExportTraceServiceRequest()
    request.resource_spans.add().scope_spans.add().spans.add(name=name, trace_id=b"t" * 16)
    return request


async def until(condition):
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.05)


@pytest.fixture
async def receiver():
    receiver = Receiver(Spans(), ports.free_port(), f"127.0.0.1:{ports.free_port()}")
    receiver.collector = int(receiver._forwarding._target.rpartition(":")[2])
    await receiver.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{receiver.port}") as channel:
        receiver.stub = trace_service_pb2_grpc.TraceServiceStub(channel)
        yield receiver
    await receiver.stop()


async def test_what_is_kept_is_sent_on_also_at_the_end(receiver):
    collector = Collector()
    server = await collector.start(receiver.collector)
    for number in range(20):
        await receiver.stub.Export(batch(f"s{number}"))
    await receiver.stop()
    assert collector.names == [f"s{number}" for number in range(20)]
    assert len(receiver._spans) == 20
    await server.stop(None)


async def test_a_collector_that_is_not_there_holds_up_nobody(receiver):
    for number in range(3):
        await receiver.stub.Export(batch(f"lost{number}"), timeout=PATIENCE)
    assert len(receiver._spans) == 3


async def test_a_loss_is_told_once_and_so_is_its_end(receiver, capsys):
    for number in range(5):
        receiver._forwarding.put(batch(f"lost{number}"))
    await until(lambda: receiver._forwarding._lost == 5)
    collector = Collector()
    server = await collector.start(receiver.collector)
    async with asyncio.timeout(PATIENCE):
        while receiver._forwarding._lost:
            receiver._forwarding.put(batch("found"))
            await asyncio.sleep(0.1)
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 2
    assert f"do not reach the collector at 127.0.0.1:{receiver.collector}: UNAVAILABLE" in told[0]
    assert "again" in told[1]
    await server.stop(None)


async def test_a_collector_that_is_slow_fills_no_memory_and_holds_up_no_end(receiver, monkeypatch):
    monkeypatch.setattr(forwarding, "FLUSH_WITHIN", 0.2)
    collector = Collector()
    collector.goes_on.clear()
    server = await collector.start(receiver.collector)
    for number in range(2 * forwarding.MOST_WAITING):
        await receiver.stub.Export(batch(f"s{number}"), timeout=PATIENCE)
    assert receiver._forwarding._waiting.qsize() == forwarding.MOST_WAITING
    assert len(receiver._spans) == 500  # as many as a trace may have
    began = time.monotonic()
    await receiver.stop()
    assert time.monotonic() - began < forwarding.WITHIN
    collector.goes_on.set()
    await server.stop(None)
