"""Pauses between attempts, in virtual time."""

import asyncio
from itertools import pairwise
from random import Random

import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc import StatusCode
from hypothesis import given, settings
from hypothesis import strategies as st

import virtual_time
from client_kit import ATTEMPTS, over_script, text
from grpc_common.client.backoff import Backoff
from grpc_common.client.next_attempt import NEVER, PUSHBACK, pushback
from grpc_common.client.remote_error import RemoteUnavailableError
from grpc_common.client.retry_budget import RetryBudget
from scripted_channel import Answer, ScriptedChannel

seconds = st.floats(0.001, 100)
EPSILON = 1e-6


def drawn(seed):
    return Random(seed)  # noqa: S311  # to be repeated


@settings(max_examples=200)
@given(initial=seconds, growth=st.floats(1, 1000), retry=st.integers(1, 10_000), seed=st.integers())
def test_a_pause_is_drawn_below_a_bound_that_doubles_up_to_a_maximum(initial, growth, retry, seed):
    """**Feature: grpc-microservices-support, Property 7: Retry with Exponential Backoff**"""
    backoff = Backoff(initial, initial * growth)
    bound = min(initial * growth, initial * 2.0 ** min(retry - 1, 900))
    assert backoff.bound(retry) == pytest.approx(bound)
    assert 0 <= backoff.pause(retry, drawn(seed)) <= bound * (1 + EPSILON)


def test_jitter_is_full():
    pauses = sorted(Backoff(1.0, 1.0).pause(1, drawn(seed)) for seed in range(1000))
    assert pauses[0] < 0.01
    assert pauses[-1] > 0.99
    assert pauses[500] == pytest.approx(0.5, abs=0.1)


@settings(max_examples=150, deadline=None)
@given(
    failures=st.integers(0, 6),
    took=st.lists(st.floats(0, 0.5), min_size=7, max_size=7),
    seed=st.integers(0, 2**32),
)
def test_a_failed_call_is_repeated_after_such_pauses(failures, took, seed):
    """Through the whole client, in virtual time.

    **Feature: grpc-microservices-support, Property 7: Retry with Exponential Backoff**
    """

    async def scenario():
        answers = [Answer(StatusCode.UNAVAILABLE, time) for time in took[:failures]] + [Answer(seconds=took[6])]
        channel = ScriptedChannel(*answers)
        stub, _ = over_script(channel, seed=seed)
        try:
            await stub.Read(text())
        except RemoteUnavailableError as error:
            assert failures >= ATTEMPTS
            assert error.attempts == ATTEMPTS
        else:
            assert failures < ATTEMPTS
        return channel.attempts

    attempts = virtual_time.run(scenario())
    assert len(attempts) == min(ATTEMPTS, failures + 1)
    backoff = Backoff(0.01, 0.04)  # the policy's
    for number, (before, after) in enumerate(pairwise(attempts), 1):
        pause = after.at - before.at - took[number - 1]
        assert -EPSILON <= pause <= backoff.bound(number) + EPSILON


def retry_info(after):
    packed = status_pb2.Status(code=14)
    info = error_details_pb2.RetryInfo()
    info.retry_delay.FromNanoseconds(int(after * 1e9))
    packed.details.add().Pack(info)
    return (("grpc-status-details-bin", packed.SerializeToString()),)


@settings(max_examples=100, deadline=None)
@given(milliseconds=st.integers(0, 3000), as_info=st.booleans())
def test_a_server_says_when_to_come_back(milliseconds, as_info):
    """P7: pushback takes the place of the pause; RetryInfo is the least pause."""
    wanted = milliseconds / 1000
    trailers = retry_info(wanted) if as_info else ((PUSHBACK, str(milliseconds)),)

    async def scenario():
        channel = ScriptedChannel(Answer(StatusCode.UNAVAILABLE, 0, trailers), Answer())
        stub, _ = over_script(channel)
        await stub.Read(text())
        return channel.attempts

    first, second = virtual_time.run(scenario())
    pause = second.at - first.at
    assert pause >= wanted - EPSILON
    assert pause <= (max(wanted, 0.01) if as_info else wanted) + EPSILON


@pytest.mark.parametrize("value", ["-1", "soon", "", "1.5", "99999999999"])
def test_a_server_says_that_nobody_should_come_back(value):
    assert pushback(((PUSHBACK, value),)) == NEVER

    async def scenario():
        channel = ScriptedChannel(Answer(StatusCode.UNAVAILABLE, 0, ((PUSHBACK, value),)), Answer())
        stub, _ = over_script(channel)
        with pytest.raises(RemoteUnavailableError):
            await stub.Read(text())
        return channel.attempts

    assert len(virtual_time.run(scenario())) == 1


@pytest.mark.parametrize(
    ("initial", "maximum"), [(0, 1), (-1, 1), (2, 1), (1, float("inf")), (float("nan"), 1), (1, float("nan"))]
)
def test_a_backoff_grows_from_above_nothing_to_an_end(initial, maximum):
    with pytest.raises(ValueError, match="from above 0 to an end"):
        Backoff(initial, maximum)


def test_a_pause_that_would_outlast_the_deadline_is_not_begun():
    async def scenario():
        channel = ScriptedChannel(Answer(StatusCode.UNAVAILABLE, 0.5, ((PUSHBACK, "600"),)), Answer())
        stub, _ = over_script(channel)
        with pytest.raises(RemoteUnavailableError):
            await stub.Read(text(), timeout=1)
        return asyncio.get_running_loop().time(), len(channel.attempts)

    assert virtual_time.run(scenario()) == (pytest.approx(0.5), 1)


@settings(max_examples=150)
@given(results=st.lists(st.booleans(), min_size=20, max_size=300), maximum=st.floats(2, 100), ratio=st.floats(0, 1))
def test_the_budget_is_a_bucket_that_failures_empty(results, maximum, ratio):
    """P7: gRFC A6's throttling, against the words of the gRFC."""
    budget, tokens = RetryBudget(maximum, ratio), maximum
    for answered in results:
        if answered:
            budget.answered()
            tokens = min(maximum, tokens + ratio)
        else:
            budget.failed()
            tokens = max(0.0, tokens - 1)
        assert budget.tokens == pytest.approx(tokens)
        assert budget.allows == (budget.tokens > maximum / 2)


def test_an_empty_budget_ends_repeating_for_all_methods_of_a_channel():
    async def scenario():
        channel = ScriptedChannel(Answer(StatusCode.UNAVAILABLE))
        stub, connection = over_script(channel, budget_tokens=10)
        for _ in range(4):
            with pytest.raises(RemoteUnavailableError):
                await stub.Read(text())
        before = len(channel.attempts)
        with pytest.raises(RemoteUnavailableError):
            await stub.Put(text())
        return before, len(channel.attempts), connection.budget.allows

    before, after, allows = virtual_time.run(scenario())
    assert before == ATTEMPTS + 1 + 1 + 1  # five failures leave half of ten
    assert after == before + 1
    assert not allows


@pytest.mark.parametrize("method", ["Write", "MeshRead"])
def test_what_is_not_the_clients_to_repeat_is_sent_once(method):
    async def scenario():
        channel = ScriptedChannel(Answer(StatusCode.UNAVAILABLE))
        stub, _ = over_script(channel)
        with pytest.raises(RemoteUnavailableError):
            await getattr(stub, method)(text())
        return channel.attempts

    assert len(virtual_time.run(scenario())) == 1


@pytest.mark.parametrize("status", [status for status in StatusCode if status.name not in ("OK", "UNAVAILABLE")])
def test_other_statuses_are_answers(status):
    async def scenario():
        channel = ScriptedChannel(Answer(status))
        stub, _ = over_script(channel)
        call = stub.Read(text())
        assert await call.code() is status
        return channel.attempts

    assert len(virtual_time.run(scenario())) == 1
