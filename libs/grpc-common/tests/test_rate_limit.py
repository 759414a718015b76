"""The rate limit: a token bucket per principal and method, by a fixed clock."""

from collections import deque

import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc import StatusCode
from hypothesis import given, settings
from hypothesis import strategies as st

from grpc_common.chain import Chain
from grpc_common.interceptors import rate_limit
from grpc_common.interceptors.error import ErrorInterceptor
from grpc_common.interceptors.rate_limit import Buckets, RateLimitInterceptor
from grpc_common.policy import Rate
from grpc_common.testing import in_process
from limited_service import Gate, begin


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


async def done(context):
    pass


async def test_a_burst_passes_then_the_rate_holds():
    clock = Clock()
    gate = Gate(done)
    async with in_process(gate.register, [Chain([ErrorInterceptor(), RateLimitInterceptor(clock)])]) as channel:

        async def ask():
            call = begin(channel, "Rated")
            return await call.code(), dict(await call.trailing_metadata())

        assert [(await ask())[0] for _ in range(3)] == [StatusCode.OK] * 3
        code, trailers = await ask()
        assert code is StatusCode.RESOURCE_EXHAUSTED
        status = status_pb2.Status.FromString(trailers["grpc-status-details-bin"])
        info = error_details_pb2.RetryInfo()
        assert any(detail.Unpack(info) for detail in status.details)
        assert 0 < info.retry_delay.ToTimedelta().total_seconds() <= 0.1
        clock.now += 0.1
        assert (await ask())[0] is StatusCode.OK
        assert (await ask())[0] is StatusCode.RESOURCE_EXHAUSTED


async def test_methods_do_not_share_a_bucket():
    gate = Gate(done)
    async with in_process(gate.register, [Chain([ErrorInterceptor(), RateLimitInterceptor(Clock())])]) as channel:
        codes = [await begin(channel, "Rated").code() for _ in range(4)]
        assert codes == [StatusCode.OK] * 3 + [StatusCode.RESOURCE_EXHAUSTED]
        assert await begin(channel, "AlsoRated").code() is StatusCode.OK


async def test_methods_without_a_rate_are_left_alone():
    gate = Gate(done)
    async with in_process(gate.register, [Chain([ErrorInterceptor(), RateLimitInterceptor(Clock())])]) as channel:
        assert {await begin(channel, "Plain").code() for _ in range(20)} == {StatusCode.OK}


@given(
    per_second=st.floats(0.1, 1000),
    burst=st.integers(1, 50),
    pauses=st.lists(st.floats(0, 5), min_size=1, max_size=200),
)
@settings(max_examples=200, deadline=None)
def test_no_window_sees_more_than_the_burst_and_the_rate(per_second, burst, pauses):
    """In every window of t seconds at most burst + t * per_second calls pass; who waits as told passes."""
    clock = Clock()
    buckets = Buckets(Rate(per_second, burst), clock)
    passed = deque()
    for pause in pauses:
        clock.now += pause
        wait = buckets.take("caller")
        if wait:
            clock.now += wait * 1.000001
            assert buckets.take("caller") == 0
        passed.append(clock.now)
        for count, since in enumerate(reversed(passed), start=1):
            assert count <= burst + (clock.now - since) * per_second + 1e-5 * count


def test_principals_do_not_share_a_bucket():
    clock = Clock()
    buckets = Buckets(Rate(1, 1), clock)
    assert buckets.take("a") == 0
    assert buckets.take("b") == 0
    assert buckets.take("a") > 0


def test_the_wait_is_as_long_as_a_token_takes():
    clock = Clock()
    buckets = Buckets(Rate(2, 1), clock)
    assert buckets.take("a") == 0
    assert buckets.take("a") == pytest.approx(0.5)
    clock.now += 0.1
    assert buckets.take("a") == pytest.approx(0.4)
    assert buckets.take("a") == pytest.approx(0.4)  # to be refused costs nothing
    clock.now += 0.4
    assert buckets.take("a") == 0


def test_a_token_given_back_can_be_taken_again():
    buckets = Buckets(Rate(1, 2), Clock())
    assert [buckets.take("a"), buckets.take("a")] == [0, 0]
    buckets.give("a")
    buckets.give("b")  # who took none: it stays full, and becomes no fuller
    assert buckets.take("a") == 0
    assert buckets.take("a") > 0
    assert [buckets.take("b") > 0 for _ in range(3)] == [False, False, True]


def test_a_bucket_does_not_become_fuller_than_its_burst():
    buckets = Buckets(Rate(1, 2), Clock())
    buckets.take("a")
    for _ in range(5):
        buckets.give("a")
    assert [buckets.take("a") > 0 for _ in range(3)] == [False, False, True]


def test_the_memory_is_bounded(monkeypatch):
    monkeypatch.setattr(rate_limit, "MAX_BUCKETS", 10)
    buckets = Buckets(Rate(1, 1), Clock())
    for number in range(100):
        buckets.take(str(number))
    assert len(buckets._levels) == 10


def test_who_called_longest_ago_is_forgotten_first(monkeypatch):
    monkeypatch.setattr(rate_limit, "MAX_BUCKETS", 2)
    buckets = Buckets(Rate(1, 2), Clock())
    for name in ("a", "b", "a", "c", "c"):
        assert buckets.take(name) == 0
    assert buckets.take("a") > 0
    assert buckets.take("c") > 0
    assert [buckets.take("b"), buckets.take("b")] == [0, 0]
