"""What the attempts of a call tell their servers, and when the first answer settles it (gRFC A6)."""

import asyncio

import pytest
from grpc import StatusCode, aio

import virtual_time
from client_kit import ATTEMPTS, Server, Stub, make_factory, over_script, serving, text
from grpc_common.client.call import PREVIOUS_ATTEMPTS
from grpc_common.client.remote_error import RemoteError
from grpc_common.client.retry_config import RetryConfig
from scripted_channel import Answer, ScriptedChannel

REPEATED = {"Read": "unary_unary", "Put": "unary_unary", "Watch": "unary_stream", "Gather": "stream_unary",
            "Talk": "stream_stream"}  # fmt: skip


async def finish(call):
    """Take everything a call gives."""
    if hasattr(call, "__aiter__"):
        return [reply async for reply in call]
    return await call


def told(metadata):
    return [value for key, value in metadata if key == PREVIOUS_ATTEMPTS]


def test_each_attempt_says_how_many_there_were():
    async def scenario():
        channel = ScriptedChannel(Answer(StatusCode.UNAVAILABLE))
        stub, _ = over_script(channel)
        with pytest.raises(RemoteError):
            await stub.Put(text(), metadata=(("x-a", "1"),))
        return [list(attempt.metadata) for attempt in channel.attempts]

    attempts = virtual_time.run(scenario())
    assert [told(metadata) for metadata in attempts] == [[], ["1"], ["2"], ["3"]]
    assert all(("x-a", "1") in metadata for metadata in attempts)


def test_a_hedge_says_so_too():
    async def scenario():
        channel = ScriptedChannel(Answer(seconds=1), Answer(seconds=0.1))
        stub, _ = over_script(channel, hedge_ratio=1.0, hedge_delay=0.2)
        await stub.Read(text())
        return channel.attempts

    first, second = virtual_time.run(scenario())
    assert (told(first.metadata), told(second.metadata)) == ([], ["1"])


@pytest.mark.parametrize("core_retries", [True, False])
@pytest.mark.parametrize("name", REPEATED)
async def test_servers_see_it_where_core_lets_it_pass(name, core_retries):
    """Core removes it from metadata as long as its own retry is on: when that changes, ADR 0008 is to be changed."""
    seen = []

    async def unary(request, context):
        seen.append(told(context.invocation_metadata()))
        await context.abort(StatusCode.UNAVAILABLE, "away")

    async def stream(request, context):
        await unary(request, context)
        yield text()

    served = Server(**{name: stream if REPEATED[name].endswith("_stream") else unary})
    options = [("grpc.enable_retries", int(core_retries))]
    async with make_factory() as factory, serving(served) as target, aio.insecure_channel(target, options) as plain:
        method = getattr(factory.create_stub(Stub, plain), name)
        with pytest.raises(RemoteError) as failed:
            await finish(method([text()] if REPEATED[name].startswith("stream") else text(), timeout=30))
        assert failed.value.attempts == ATTEMPTS
    assert seen == ([[]] * ATTEMPTS if core_retries else [[], ["1"], ["2"], ["3"]])


@pytest.mark.parametrize("early", [True, False])
@pytest.mark.parametrize("name", REPEATED)
async def test_an_attempt_that_sent_headers_is_not_repeated(name, early):
    seen = asyncio.Event()

    async def fail(request, context):
        if early:
            await context.send_initial_metadata((("x-first", "1"),))
            if REPEATED[name] in {"unary_stream", "stream_stream"}:
                await seen.wait()  # grpc.aio may lose headers that the status comes close behind
        await context.abort(StatusCode.UNAVAILABLE, "cut off")

    async def stream(request, context):
        await fail(request, context)
        yield text()

    served = Server(**{name: stream if REPEATED[name].endswith("_stream") else fail})
    async with make_factory() as factory, serving(served) as target:
        method = getattr(Stub(await factory.create_channel(target, secure=False)), name)
        call = method([text()] if REPEATED[name].startswith("stream") else text(), timeout=30)
        if early and REPEATED[name].endswith("_stream"):
            await call._call.inner.initial_metadata()
            seen.set()
        with pytest.raises(RemoteError) as failed:
            await finish(call)
    assert failed.value.status is StatusCode.UNAVAILABLE
    assert served.entered[name] == (1 if early else ATTEMPTS)
    assert (("x-first", "1") in failed.value.headers) is early


async def test_the_headers_of_the_first_settle_a_race():
    """A second attempt is under way, and is not waited for: the first one's failure is the answer."""
    under_way, let_go = asyncio.Event(), asyncio.Event()
    order = []

    async def behavior(request, context):
        order.append(len(order))
        if order[-1] == 0:
            await under_way.wait()
            await context.send_initial_metadata((("x-first", "1"),))
            await context.abort(StatusCode.UNAVAILABLE, "cut off")
        under_way.set()
        await let_go.wait()
        return request

    served = Server(Read=behavior)
    retry = RetryConfig(hedge_ratio=1.0, hedge_delay=0.01)
    async with make_factory(retry_config=retry) as factory, serving(served) as target:
        stub = Stub(await factory.create_channel(target, secure=False))
        async with asyncio.timeout(20):
            with pytest.raises(RemoteError) as failed:
                await stub.Read(text(), timeout=60)
        let_go.set()
    assert failed.value.code() is StatusCode.UNAVAILABLE
    assert failed.value.details() == "cut off"
    assert served.entered["Read"] == 2
