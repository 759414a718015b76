"""A slow read is asked for twice, seldom, and the first answer counts."""

import asyncio

import pytest
from grpc import StatusCode
from hypothesis import given, settings
from hypothesis import strategies as st

import virtual_time
from client_kit import Server, Stub, make_factory, over_script, serving, text
from grpc_common.client.hedge_budget import LEAST_SAMPLES, HedgeBudget, Latencies
from grpc_common.client.remote_error import RemoteError, RemoteTimeoutError
from grpc_common.client.retry_config import RetryConfig
from scripted_channel import Answer, ScriptedChannel

DELAY = 0.05


def over(*answers, calls=1, method="Read", **more):
    """Make calls in virtual time, one after the other; return what they gave, when, and the channel."""

    async def scenario():
        channel = ScriptedChannel(*answers)
        stub, connection = over_script(channel, hedge_ratio=1.0, hedge_delay=DELAY, **more)
        found = []
        for _ in range(calls):
            before = asyncio.get_running_loop().time()
            try:
                found.append((await getattr(stub, method)(text())).value)
            except RemoteError as error:
                found.append(error.status)
            found.append(asyncio.get_running_loop().time() - before)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return found, channel, connection

    return virtual_time.run(scenario())


def test_a_quick_call_is_made_once():
    found, channel, _ = over(Answer(seconds=DELAY / 2))
    assert found == ["reply", pytest.approx(DELAY / 2)]
    assert len(channel.attempts) == 1


def test_a_slow_call_is_made_again_and_the_loser_is_cancelled():
    found, channel, _ = over(Answer(seconds=1), Answer(seconds=0.01))
    assert found == ["reply", pytest.approx(DELAY + 0.01)]
    assert [call.done() for call in channel.calls] == [True, True]
    assert channel.calls[0]._task.cancelled()


def test_the_first_may_still_win():
    found, channel, _ = over(Answer(seconds=0.06), Answer(seconds=1))
    assert found == ["reply", pytest.approx(0.06)]
    assert channel.calls[1]._task.cancelled()


@pytest.mark.parametrize("method", ["Put", "Write", "MeshRead"])
def test_only_reads_that_the_client_may_repeat_are_hedged(method):
    _, channel, _ = over(Answer(seconds=1), method=method)
    assert len(channel.attempts) == 1


def test_a_hedge_that_fails_leaves_the_first_its_chance():
    found, _, _ = over(Answer(seconds=0.2), Answer(StatusCode.UNAVAILABLE, 0.01))
    assert found == ["reply", pytest.approx(0.2)]


def test_a_first_that_fails_leaves_the_hedge_its_chance():
    found, _, _ = over(Answer(StatusCode.UNAVAILABLE, 0.06), Answer(seconds=0.2))
    assert found == ["reply", pytest.approx(DELAY + 0.2)]


def test_an_answer_that_is_an_error_ends_the_race():
    found, channel, _ = over(Answer(StatusCode.NOT_FOUND, 0.06), Answer(seconds=1))
    assert found == [StatusCode.NOT_FOUND, pytest.approx(0.06)]
    assert channel.calls[1]._task.cancelled()


def test_without_budget_nobody_hedges():
    _, channel, connection = over(*[Answer(StatusCode.UNAVAILABLE)] * 6, Answer(seconds=0.1), calls=6, budget_tokens=10)
    assert not connection.budget.allows
    assert len(channel.attempts) == 4 + 5  # after five failures each call is sent once


@settings(max_examples=200, deadline=None)
@given(
    times=st.lists(st.floats(0, 2), min_size=1, max_size=30),
    statuses=st.lists(st.sampled_from([StatusCode.OK, StatusCode.UNAVAILABLE, StatusCode.INTERNAL]), min_size=1),
)
def test_no_race_leaves_anything_running_or_lasts_longer_than_its_first_attempt_need(times, statuses):
    """P9: hedged calls, too, end by their deadline, and every attempt ends with them."""
    answers = [Answer(statuses[at % len(statuses)], seconds) for at, seconds in enumerate(times)]

    async def scenario():
        channel = ScriptedChannel(*answers)
        stub, _ = over_script(channel, hedge_ratio=1.0, hedge_delay=DELAY)
        loop = asyncio.get_running_loop()
        status = await stub.Read(text(), timeout=1).code()
        for _ in range(4):
            await asyncio.sleep(0)
        return status, loop.time(), channel, len(asyncio.all_tasks())

    status, ended, channel, tasks = virtual_time.run(scenario())
    assert ended <= 1 + 1e-6
    assert all(call.done() for call in channel.calls)
    assert len(channel.attempts) <= 4
    assert tasks == 1
    if status is StatusCode.OK:
        assert any(answer.status is StatusCode.OK for answer in answers)


@settings(max_examples=150)
@given(ratio=st.floats(0, 0.5), wanted=st.lists(st.booleans(), min_size=20, max_size=500))
def test_hedges_are_no_more_than_their_share(ratio, wanted):
    budget, taken = HedgeBudget(ratio), 0
    for number, wants in enumerate(wanted, 1):
        budget.call()
        taken += wants and budget.take()
        assert taken <= number * ratio + 1e-6


def test_what_is_slow_is_found_out():
    latencies = Latencies()
    for number in range(LEAST_SAMPLES):
        assert latencies.slow is None
        latencies.record(0.1 if number % 10 == 0 else 0.01)
    assert latencies.slow == 0.1  # one in ten
    for _ in range(1024):
        latencies.record(0.01)
    assert latencies.slow == 0.02  # all alike: twice the usual


async def test_a_real_server_is_asked_again():
    slow = iter([True])

    async def behavior(request, context):
        if next(slow, False):
            await asyncio.Event().wait()
        return request

    server = Server(Read=behavior)
    retry = RetryConfig(hedge_ratio=1.0, hedge_delay=0.05)
    async with serving(server) as target, make_factory(retry_config=retry) as factory:
        stub = Stub(await factory.create_channel(target, secure=False))
        assert await stub.Read(text("a")) == text("a")
    assert server.entered["Read"] == 2


async def test_cancelling_a_hedged_call_cancels_both():
    inside = asyncio.Semaphore(0)
    left = asyncio.Semaphore(0)

    async def behavior(request, context):
        inside.release()
        try:
            await asyncio.Event().wait()
        finally:
            left.release()

    retry = RetryConfig(hedge_ratio=1.0, hedge_delay=0.01)
    async with serving(Server(Read=behavior)) as target, make_factory(retry_config=retry) as factory:
        stub = Stub(await factory.create_channel(target, secure=False))
        call = stub.Read(text())
        async with asyncio.timeout(5):
            await inside.acquire()
            await inside.acquire()
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            await left.acquire()
            await left.acquire()


def test_a_hedge_never_goes_past_the_deadline():
    async def scenario():
        channel = ScriptedChannel(Answer(seconds=10))
        stub, _ = over_script(channel, hedge_ratio=1.0, hedge_delay=DELAY)
        with pytest.raises(RemoteTimeoutError):
            await stub.Read(text(), timeout=DELAY)
        return channel.attempts

    assert len(virtual_time.run(scenario())) == 1
