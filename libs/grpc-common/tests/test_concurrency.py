"""The concurrency limit: exact, for streams too, in waves; batch work leaves room; health is exempt."""

import asyncio

import pytest
from grpc import StatusCode
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from hypothesis import given, settings
from hypothesis import strategies as st

from grpc_common.chain import Chain
from grpc_common.interceptors.concurrency import ConcurrencyLimitInterceptor
from grpc_common.interceptors.error import ErrorInterceptor
from grpc_common.testing import in_process
from limited_service import Gate, begin


async def settle(condition):
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110  # what is waited for has no event
            await asyncio.sleep(0.005)


async def codes(calls):
    return [await call.code() for call in calls]


@given(limit=st.integers(1, 6), waves=st.lists(st.integers(1, 12), min_size=1, max_size=3), cancel=st.booleans())
@settings(max_examples=100, deadline=None)
def test_never_one_handler_more_than_the_limit(limit, waves, cancel):
    """Waves of streams, ended by their handlers or by their callers: at most `limit` run, and exactly those refused
    that came while as many ran."""

    async def run():
        gate, limiter = Gate(), ConcurrencyLimitInterceptor(limit)
        async with in_process(gate.register, [Chain([ErrorInterceptor(), limiter])]) as channel:
            entered = 0
            for wave in waves:
                gate.open.clear()
                calls = [begin(channel, "Plain") for _ in range(wave)]
                admitted = min(wave, limit)
                await settle(lambda: sum(call.done() for call in calls) == wave - admitted)  # noqa: B023
                await settle(lambda: gate.entered == entered + admitted)  # noqa: B023
                entered += admitted
                refused = [call for call in calls if call.done()]
                assert set(await codes(refused)) <= {StatusCode.RESOURCE_EXHAUSTED}
                kept = [call for call in calls if not call.done()]
                if cancel:
                    for call in kept:
                        call.cancel()
                else:
                    gate.open.set()
                assert set(await codes(kept)) == {StatusCode.CANCELLED if cancel else StatusCode.OK}
                await settle(lambda: limiter.running == 0)
            assert gate.most <= limit

    asyncio.run(run())


async def test_batch_work_leaves_room_for_somebody_who_waits():
    gate = Gate()
    async with in_process(gate.register, [Chain([ErrorInterceptor(), ConcurrencyLimitInterceptor(5)])]) as channel:
        batch = [begin(channel, "Batch") for _ in range(6)]
        await settle(lambda: gate.running == 4)
        waiting = begin(channel, "Plain")
        await settle(lambda: gate.running == 5)
        gate.open.set()
        assert await waiting.code() is StatusCode.OK
        assert sorted(code.name for code in await codes(batch)) == ["OK"] * 4 + ["RESOURCE_EXHAUSTED"] * 2


async def test_a_method_has_a_limit_of_its_own():
    gate = Gate()
    async with in_process(gate.register, [Chain([ErrorInterceptor(), ConcurrencyLimitInterceptor(10)])]) as channel:
        calls = [begin(channel, "Pair") for _ in range(3)]
        await settle(lambda: gate.running == 2)
        await settle(lambda: any(call.done() for call in calls))
        others = [begin(channel, "Plain") for _ in range(3)]
        await settle(lambda: gate.running == 5)
        gate.open.set()
        assert sorted(code.name for code in await codes(calls)) == ["OK", "OK", "RESOURCE_EXHAUSTED"]
        assert set(await codes(others)) == {StatusCode.OK}


async def test_health_answers_when_nothing_else_can():
    gate, health = Gate(), HealthServicer()

    def register(server):
        gate.register(server)
        health_pb2_grpc.add_HealthServicer_to_server(health, server)

    async with in_process(register, [Chain([ErrorInterceptor(), ConcurrencyLimitInterceptor(1)])]) as channel:
        call = begin(channel, "Plain")
        await settle(lambda: gate.running == 1)
        reply = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5)
        assert reply.status == health_pb2.HealthCheckResponse.SERVING
        gate.open.set()
        assert await call.code() is StatusCode.OK


async def test_the_refusal_says_when_to_come_back():
    gate = Gate()
    async with in_process(gate.register, [Chain([ErrorInterceptor(), ConcurrencyLimitInterceptor(1)])]) as channel:
        kept = begin(channel, "Plain")
        await settle(lambda: gate.running == 1)
        refused = begin(channel, "Plain")
        assert await refused.code() is StatusCode.RESOURCE_EXHAUSTED
        assert b"google.rpc.RetryInfo" in dict(await refused.trailing_metadata())["grpc-status-details-bin"]
        kept.cancel()


def test_a_limit_of_nothing_is_refused():
    with pytest.raises(ValueError, match="at least 1"):
        ConcurrencyLimitInterceptor(0)
