"""Calls of all kinds at once, with all endings mixed, and the messages of streams through the whole chain."""

import asyncio
import gc

import grpc
from google.protobuf.wrappers_pb2 import StringValue
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from grpc_common.conformance.endings import CASES, Client, Request
from grpc_common.conformance.matrix import Matrix, running_tasks
from grpc_common.testing import in_process
from subjects import subject_of

QUICK = [
    case
    for case in CASES
    if case.ending.client is not Client.RUNS_OUT
    and case.ending.request not in (Request.OVERSIZED, Request.MUCH_METADATA)
]
TEXTS = st.lists(st.text("abcé世 ", max_size=20), max_size=20)


@settings(max_examples=100, deadline=None)
@given(cases=st.lists(st.sampled_from(QUICK), min_size=1, max_size=12))
def test_calls_complete_however_they_are_mixed(cases):
    """**Feature: grpc-code-review, Property 1: Async Operation Completion**"""

    async def calls():
        lost = []
        with capture_logs():
            async with Matrix.serve(subject_of("chain")) as matrix, asyncio.timeout(20):
                asyncio.get_running_loop().set_exception_handler(lambda _, context: lost.append(context))
                before = running_tasks()
                found = await asyncio.gather(*map(matrix.call, cases))
                await matrix.rest()
                assert found == [[]] * len(cases)
                assert matrix.findings_of_gauges() == []
                assert not running_tasks() - before
        gc.collect(0)
        assert not lost

    asyncio.run(calls())


def served(kind, behavior):
    handler = getattr(grpc, f"{kind}_rpc_method_handler")(
        behavior, StringValue.FromString, StringValue.SerializeToString
    )
    generic = grpc.method_handlers_generic_handler("meshwork.test.Streams", {"Call": handler})
    return in_process(lambda server: server.add_generic_rpc_handlers((generic,)))


def method(channel, kind):
    return getattr(channel, kind)(
        "/meshwork.test.Streams/Call",
        request_serializer=StringValue.SerializeToString,
        response_deserializer=StringValue.FromString,
    )


@settings(max_examples=100, deadline=None)
@given(texts=TEXTS, writes=st.booleans())
async def test_all_replies_arrive_in_order_and_then_the_end(texts, writes):
    """**Feature: grpc-microservices-support, Property 10: Server Streaming Message Delivery**"""

    async def generate(request, context):
        for text in texts:
            yield StringValue(value=text)

    async def write(request, context):
        for text in texts:
            await context.write(StringValue(value=text))

    async with served("unary_stream", write if writes else generate) as channel:
        call = method(channel, "unary_stream")(StringValue(), timeout=10)
        assert [reply.value async for reply in call] == texts
        assert await call.code() is grpc.StatusCode.OK


@settings(max_examples=100, deadline=None)
@given(texts=TEXTS, reads=st.booleans())
async def test_all_requests_arrive_in_order_before_the_reply(texts, reads):
    """**Feature: grpc-microservices-support, Property 11: Client Streaming Message Reception**"""
    received = []

    async def iterate(requests, context):
        received.extend([request.value async for request in requests])
        return StringValue(value=str(len(received)))

    async def read(requests, context):
        while (request := await context.read()) is not grpc.aio.EOF:
            received.append(request.value)
        return StringValue(value=str(len(received)))

    async with served("stream_unary", read if reads else iterate) as channel:
        call = method(channel, "stream_unary")((StringValue(value=text) for text in texts), timeout=10)
        assert (await call).value == str(len(texts))
        assert received == texts
