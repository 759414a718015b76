"""Replies that several tasks of a handler send, or that nobody waits for: core takes one thing at a time of a call."""

import asyncio
from collections import Counter

import grpc
import pytest
from google.protobuf.wrappers_pb2 import BytesValue
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from grpc_common.chain import Chain
from grpc_common.default_chain import default_interceptors
from grpc_common.errors import NotFoundError
from grpc_common.testing import in_process

PATIENCE = 20
REPLY = BytesValue(value=b"reply")
LARGE = BytesValue(value=bytes(3 * 2**20))


async def at_once(context):
    await asyncio.gather(*(context.write(REPLY) for _ in range(5)))


async def in_a_group(context):
    async with asyncio.TaskGroup() as group:
        for _ in range(5):
            group.create_task(context.write(LARGE))


async def beside_the_head(context):
    await asyncio.gather(context.send_initial_metadata((("head", "first"),)), context.write(REPLY))


async def left_to_itself(context):
    context.kept = asyncio.create_task(context.write(REPLY))
    await asyncio.sleep(0)


async def fails_meanwhile(context):
    context.kept = asyncio.create_task(context.write(LARGE))
    await asyncio.sleep(0)
    raise NotFoundError("no such thing")


async def aborts_meanwhile(context):
    await asyncio.gather(context.write(LARGE), context.abort(grpc.StatusCode.NOT_FOUND, "no such thing"))


async def gives_up(context):
    async with asyncio.timeout(0.0001):
        await context.write(LARGE)
        await asyncio.sleep(PATIENCE)


async def gives_up_and_goes_on(context):
    for _ in range(3):
        try:
            await gives_up(context)
        except TimeoutError:
            continue
    await context.write(REPLY)


@pytest.mark.parametrize(
    ("handle", "status", "replies"),
    [
        (at_once, "OK", 5),
        (in_a_group, "OK", 5),
        (beside_the_head, "OK", 1),
        (left_to_itself, "OK", 1),
        (fails_meanwhile, "NOT_FOUND", 1),
        (aborts_meanwhile, "NOT_FOUND", 1),
        (gives_up, "DEADLINE_EXCEEDED", 1),
        (gives_up_and_goes_on, "OK", None),
    ],
)
@pytest.mark.parametrize("requests", ["unary", "stream"])
async def test_the_caller_gets_all_and_the_status(handle, status, replies, requests):
    class Kept:
        def __init__(self, context):
            self.write, self.abort = context.write, context.abort
            self.send_initial_metadata = context.send_initial_metadata

    async def behavior(request, context):
        await handle(Kept(context))

    make = getattr(grpc, f"{requests}_stream_rpc_method_handler")
    handler = make(behavior, BytesValue.FromString, BytesValue.SerializeToString)

    def register(server):
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("writes.Service", {"Do": handler}),))

    registry = CollectorRegistry()
    with capture_logs() as logs:
        async with in_process(register, [Chain(default_interceptors(registry=registry))]) as channel:
            multicallable = getattr(channel, f"{requests}_stream")("/writes.Service/Do", None, BytesValue.FromString)
            call = multicallable(b"") if requests == "unary" else multicallable()
            if requests == "stream":
                await call.done_writing()
            got = 0
            async with asyncio.timeout(PATIENCE):
                try:
                    async for _ in call:
                        got += 1
                except grpc.aio.AioRpcError:
                    pass
                assert (await call.code()).name == status

    [line] = [line for line in logs if line["event"] == "call"]
    handled = [sample for metric in registry.collect() for sample in metric.samples if "handled" in sample.name]
    codes = Counter({sample.labels["grpc_code"].upper(): sample.value for sample in handled if sample.value})
    assert got == replies or replies is None
    assert (line["status"], line["sent"]) == (status, got)
    assert codes == {status.replace("_", ""): 1}


async def test_a_method_of_one_reply_writes_none():
    async def behavior(requests, context):
        await context.write(REPLY)
        return REPLY

    handler = grpc.stream_unary_rpc_method_handler(behavior, BytesValue.FromString, BytesValue.SerializeToString)

    def register(server):
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("writes.Service", {"Do": handler}),))

    with capture_logs() as logs:
        async with in_process(register) as channel:
            call = channel.stream_unary("/writes.Service/Do")()
            await call.done_writing()
            async with asyncio.timeout(PATIENCE):
                assert await call.code() is grpc.StatusCode.INTERNAL

    [line] = [line for line in logs if line["event"] == "call failed"]
    assert "its method has one, which is returned" in str(line["exc_info"])
