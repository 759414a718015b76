"""How long calls may take: P9, and what a budget does on its way from a server to the next."""

import asyncio
import math
import time

import pytest
from grpc import StatusCode
from hypothesis import given, settings
from hypothesis import strategies as st

import virtual_time
from client_kit import TIMEOUT, Server, Stub, make_factory, over_script, serving, text
from grpc_common.call import Call, Method, current_call
from grpc_common.client.call_timeout import call_timeout
from grpc_common.client.remote_error import DeadlineSpentError, RemoteError, RemoteTimeoutError
from grpc_common.interceptors.deadline import DeadlineInterceptor
from scripted_channel import Answer, ScriptedChannel

EPSILON = 1e-6
ROUNDED = 0.2  # core rounds what it sends up
finite = st.floats(-1e6, 1e6)


@settings(max_examples=300)
@given(asked=st.none() | finite, planned=st.floats(0.001, 1e6), left=st.none() | finite)
def test_the_least_of_what_is_asked_and_what_is_left(asked, planned, left):
    """P9: the argument wins over the policy, and what is left over both."""
    found = call_timeout(asked, planned, left)
    own = planned if asked is None else asked
    assert found == max(0.0, own if left is None else min(own, left))
    assert math.isfinite(found)


@pytest.mark.parametrize("asked", [math.inf, -math.inf, math.nan])
def test_a_call_without_an_end_is_not_made(asked):
    with pytest.raises(ValueError, match="a timeout that ends"):
        call_timeout(asked, 1.0, None)


statuses = st.sampled_from([StatusCode.OK, StatusCode.UNAVAILABLE, StatusCode.NOT_FOUND])
answers = st.builds(Answer, statuses, st.floats(0, 3))


@settings(max_examples=200, deadline=None)
@given(script=st.lists(answers, min_size=1, max_size=5), timeout=st.none() | st.floats(0.001, 8))
def test_no_call_outlasts_its_deadline_whatever_its_attempts_do(script, timeout):
    """In virtual time; every attempt is sent with what is left, and none when nothing is.

    **Feature: grpc-microservices-support, Property 9: Deadline Enforcement**
    """

    async def scenario():
        channel = ScriptedChannel(*script)
        stub, _ = over_script(channel)
        loop = asyncio.get_running_loop()
        try:
            await stub.Put(text(), timeout=timeout)
            status = StatusCode.OK
        except RemoteError as error:
            status = error.status
        return channel.attempts, loop.time(), status

    attempts, ended, status = virtual_time.run(scenario())
    given_seconds = TIMEOUT if timeout is None else timeout
    assert ended <= given_seconds + EPSILON
    assert attempts
    for attempt in attempts:
        assert 0 < attempt.timeout == pytest.approx(given_seconds - attempt.at)
    if status is StatusCode.DEADLINE_EXCEEDED:
        assert ended == pytest.approx(given_seconds)
    else:
        assert status is script[min(len(attempts), len(script)) - 1].status


@pytest.mark.parametrize("seconds", [0, -1, 0.0])
async def test_without_time_nothing_is_sent(seconds):
    channel = ScriptedChannel(Answer())
    stub, _ = over_script(channel)
    with pytest.raises(DeadlineSpentError) as spent:
        await stub.Read(text(), timeout=seconds)
    assert isinstance(spent.value, TimeoutError)
    assert spent.value.reason == "DEADLINE_SPENT"
    assert spent.value.attempts == 0
    assert not channel.attempts


async def test_a_call_made_for_another_has_no_more_time_than_that():
    channel = ScriptedChannel(Answer())
    stub, _ = over_script(channel)
    outer = Call(Method("/a.B/C", "a.B", "C", request_streaming=False, response_streaming=False), None)
    outer.deadline = time.monotonic() + 10
    token = current_call.set(outer)
    try:
        await stub.Read(text())
        await stub.Read(text(), timeout=30)
        await stub.Read(text(), timeout=3)
        outer.deadline = time.monotonic() - 1
        with pytest.raises(DeadlineSpentError):
            await stub.Read(text(), timeout=3)
    finally:
        current_call.reset(token)
    first, second, third = (attempt.timeout for attempt in channel.attempts)
    assert first <= 10
    assert second <= 10
    assert third == 3


async def test_a_budget_goes_from_server_to_server():
    seen = []

    async def last(request, context):
        seen.append(context.time_remaining())
        return request

    async with make_factory() as factory, serving(Server(Read=last)) as behind:
        inner = Stub(await factory.create_channel(behind, secure=False))

        async def first(request, context):
            return await inner.Read(request)

        async with serving(Server(Read=first), interceptors=[DeadlineInterceptor()]) as before:
            outer = Stub(await factory.create_channel(before, secure=False))
            await outer.Read(text(), timeout=2.5)
            await outer.Read(text())
    assert seen[0] <= 2.5 + ROUNDED
    assert 2.5 + ROUNDED < seen[1] <= TIMEOUT + ROUNDED


async def test_a_server_that_does_not_answer_is_given_up():
    async def silent(request, context):
        await asyncio.Event().wait()

    async with make_factory() as factory, serving(Server(Write=silent)) as target:
        stub = Stub(await factory.create_channel(target, secure=False))
        with pytest.raises(RemoteTimeoutError) as late:
            await stub.Write(text(), timeout=0.1)
    assert late.value.status is StatusCode.DEADLINE_EXCEEDED
    assert not isinstance(late.value, DeadlineSpentError)
    assert late.value.attempts == 1
