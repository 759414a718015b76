"""The scripted channel does as grpc.aio does, as far as tests in virtual time rely on it."""

import asyncio
from contextlib import asynccontextmanager

import grpc
import pytest
from grpc import StatusCode, aio

import virtual_time
from client_kit import Server, path, serving
from scripted_channel import Answer, ScriptedChannel

TRAILERS = (("grpc-retry-pushback-ms", "70"), ("k-bin", b"\x00\xff"))


@asynccontextmanager
async def real():
    async def behavior(request, context):
        if request.value == "fail":
            await context.abort(StatusCode.UNAVAILABLE, "scripted", TRAILERS)
        if request.value == "wait":
            await asyncio.Event().wait()
        return request

    async with serving(Server(Read=behavior)) as target, aio.insecure_channel(target) as channel:
        yield lambda what: channel.unary_unary(path("Read"))(what, **ARGUMENTS)


@asynccontextmanager
async def scripted():
    answers = {
        b"\x0a\x04fail": Answer(StatusCode.UNAVAILABLE, 0, TRAILERS),
        b"\x0a\x04wait": Answer(seconds=1e9),
        b"": Answer(),
    }
    yield lambda what: ScriptedChannel(answers[what]).unary_unary(path("Read"))(what, **ARGUMENTS)


ARGUMENTS = {"timeout": 0.2, "metadata": (), "credentials": None, "wait_for_ready": None, "compression": None}


async def contract(adapter):
    async with adapter() as begin:
        assert isinstance(await begin(b""), bytes)
        with pytest.raises(aio.AioRpcError) as refused:
            await begin(b"\x0a\x04fail")
        assert refused.value.code() is StatusCode.UNAVAILABLE
        assert refused.value.details() == "scripted"
        assert set(TRAILERS) <= {tuple(pair) for pair in refused.value.trailing_metadata()}
        with pytest.raises(aio.AioRpcError) as late:
            await begin(b"\x0a\x04wait")
        assert late.value.code() is StatusCode.DEADLINE_EXCEEDED
        call = begin(b"\x0a\x04wait")
        await asyncio.sleep(0)
        assert not call.done()
        assert call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert call.done()


async def test_grpc_aio():
    await contract(real)


def test_script():
    virtual_time.run(contract(scripted))


def test_the_scripted_channel_has_a_state():
    assert ScriptedChannel().get_state() is grpc.ChannelConnectivity.READY
