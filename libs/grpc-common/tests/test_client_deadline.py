"""How long calls may take: P9, and what a budget does on its way from a server to the next."""

import asyncio
import datetime as dt
import math
import time
from decimal import Decimal
from fractions import Fraction

import pydantic
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc import StatusCode
from grpc_status import rpc_status
from hypothesis import given, settings
from hypothesis import strategies as st

import virtual_time
from client_kit import TIMEOUT, Server, Stub, make_factory, over_script, serving, text
from grpc_common.bearable_wait import LONGEST_WAIT
from grpc_common.call import Call, Method, current_call
from grpc_common.client.breaker import CircuitBreakerConfig
from grpc_common.client.call_timeout import call_timeout
from grpc_common.client.factory import GRPCClientFactory
from grpc_common.client.next_attempt import NEVER, PUSHBACK, pushback
from grpc_common.client.remote_error import CircuitOpenError, DeadlineSpentError, RemoteError, RemoteTimeoutError
from grpc_common.client.retry_config import RetryConfig
from grpc_common.error_trailers import STATUS_KEY
from grpc_common.interceptors.deadline import DeadlineInterceptor
from grpc_common.keepalive import Keepalive
from grpc_common.policy import LONGEST
from grpc_common.settings import GRPCClientSettings, GRPCServerSettings
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


HUGE = [1e10, 1e300, 10**400, 7.5e9, LONGEST + 1, Decimal("1e12"), Fraction(10**12), Fraction(10**5000)]


@pytest.mark.parametrize("asked", HUGE)
async def test_a_huge_timeout_is_a_long_one(asked):
    """Core takes it for a deadline of the past."""

    async def behavior(request, context):
        seen.append(context.time_remaining())
        return request

    seen = []
    for planned in (5.0, LONGEST, 1e300):
        assert call_timeout(asked, planned, None) == LONGEST
    assert call_timeout(asked, 5.0, 3.0) == 3.0
    assert call_timeout(None, 1e300, None) == call_timeout(None, 1e300, 1e300) == LONGEST
    async with make_factory() as factory, serving(Server(Write=behavior)) as target:
        stub = Stub(await factory.create_channel(target, secure=False))
        await stub.Write(text(), timeout=asked)
    assert LONGEST - 60 < seen[0] < LONGEST + 3600 + 60  # on the way it is a number of hours


@pytest.mark.parametrize("seconds", [1e10, 1e300, LONGEST * 10])
async def test_so_is_a_huge_default(seconds):
    async def behavior(request, context):
        return request

    with pytest.raises(pydantic.ValidationError, match="default_timeout"):
        GRPCClientSettings(default_timeout=seconds)
    server = Server(Write=behavior)
    async with make_factory(default_timeout=seconds) as factory, serving(server) as target:
        channel = await factory.create_channel(target, secure=False)
        plain = channel.unary_unary("/no.policy/Method")
        with pytest.raises(RemoteError) as failed:
            await plain(b"")
    assert failed.value.status is StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("asked", ["1", b"1", dt.timedelta(seconds=1), True, [1], object(), 1j])
def test_what_is_no_number_is_refused(asked):
    with pytest.raises(TypeError, match="timeout is a number of seconds"):
        call_timeout(asked, 1.0, None)


TIMES = [
    (GRPCClientSettings, "default_timeout"),
    (GRPCClientSettings, "retry_backoff_base"),
    (GRPCClientSettings, "retry_backoff_max"),
    (GRPCClientSettings, "circuit_breaker_timeout"),
    (GRPCClientSettings, "hedge_delay"),
    (GRPCServerSettings, "lame_duck_seconds"),
    (GRPCServerSettings, "drain_seconds"),
    (RetryConfig, "backoff_base"),
    (RetryConfig, "backoff_max"),
    (RetryConfig, "hedge_delay"),
    (CircuitBreakerConfig, "recovery_timeout"),
    (CircuitBreakerConfig, "window"),
    (Keepalive, "interval"),
    (Keepalive, "timeout"),
    (GRPCClientFactory, "default_timeout"),
]


@pytest.mark.parametrize("value", [math.inf, math.nan, -1.0])
@pytest.mark.parametrize(("cls", "name"), TIMES)
async def test_no_time_of_a_setting_is_endless(cls, name, value):
    with pytest.raises(ValueError, match=name):
        cls(**{name: value})


@settings(max_examples=300)
@given(value=st.text() | st.integers().map(str) | st.binary(), more=st.lists(st.tuples(st.text(), st.text())))
def test_whatever_a_server_asks_for_is_a_time_or_never(value, more):
    """gRFC A6: what cannot be read, or is negative, means not at all."""
    found = pushback((*more, (PUSHBACK, value)))
    assert found == NEVER or 0 <= found < 1e9


@settings(max_examples=200)
@given(
    seconds=st.integers(-(2**63), 2**63 - 1),
    nanos=st.integers(-(2**31), 2**31 - 1),
    asked=st.none() | st.integers(-(10**20), 10**20).map(str),
)
def test_no_pause_outlasts_the_deadline_whatever_the_server_asks_for(seconds, nanos, asked):
    packed = status_pb2.Status(code=14)
    info = error_details_pb2.RetryInfo()
    info.retry_delay.seconds, info.retry_delay.nanos = seconds, nanos
    packed.details.add().Pack(info)
    trailers = [(STATUS_KEY, packed.SerializeToString())]
    trailers += [] if asked is None else [(PUSHBACK, asked)]

    async def scenario():
        channel = ScriptedChannel(Answer(StatusCode.UNAVAILABLE, trailers=tuple(trailers)))
        stub, _ = over_script(channel)
        with pytest.raises(RemoteError):
            await stub.Put(text())
        return asyncio.get_running_loop().time()

    assert virtual_time.run(scenario()) <= TIMEOUT + EPSILON


@pytest.mark.parametrize("seconds", [1.0, 1e12, 1e300])
def test_a_wait_that_nobody_lives_to_see_can_be_told(seconds):
    async def scenario():
        breaker = CircuitBreakerConfig(1, recovery_timeout=seconds)
        stub, _ = over_script(ScriptedChannel(Answer(StatusCode.UNAVAILABLE)), breaker=breaker)
        await stub.Write(text()).code()
        with pytest.raises(CircuitOpenError) as refused:
            await stub.Write(text())
        return refused.value

    error = virtual_time.run(scenario())
    told = rpc_status.from_call(error).details[1]
    assert told.Unpack(info := error_details_pb2.RetryInfo())
    assert info.retry_delay.seconds == min(seconds, LONGEST_WAIT)


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
