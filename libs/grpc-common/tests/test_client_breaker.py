"""The circuit breaker against its model, in virtual time, and what its callers see of it."""

import asyncio

import grpc
import pytest
from grpc import StatusCode
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

import virtual_time
from client_kit import TIMEOUT, Server, Stub, make_factory, over_script, path, serving, text
from grpc_common.client.breaker import BreakerState, CircuitBreaker, CircuitBreakerConfig
from grpc_common.client.remote_error import CircuitOpenError, RemoteError, RemoteUnavailableError
from grpc_common.error_trailers import STATUS_KEY
from grpc_common.fixed_clock import FixedClock
from scripted_channel import Answer, ScriptedChannel

CLOSED, HALF_OPEN, OPEN = BreakerState.CLOSED, BreakerState.HALF_OPEN, BreakerState.OPEN
NEVER_BY_RATIO = 10**9


class Model:
    """The breaker as the specification has it: a threshold of failures in a row, a recovery time, limited probes."""

    def __init__(self, config):
        self.config = config
        self.state, self.row, self.opened, self.probes, self.proofs, self.era = CLOSED, 0, 0.0, 0, 0, 0
        self.tried = 0.0

    def become(self, state, now):
        self.state, self.row, self.probes, self.proofs = state, 0, 0, 0
        self.era += 1
        self.opened = now

    def admit(self, now):
        if self.state is OPEN and now - self.opened >= self.config.recovery_timeout:
            self.become(HALF_OPEN, now)
        full = self.probes >= self.config.half_open_max_calls and now - self.tried < self.config.recovery_timeout
        if self.state is OPEN or (self.state is HALF_OPEN and full):
            return None
        if self.state is HALF_OPEN:
            self.probes += 1
            self.tried = now
        return self.era

    def end(self, era, how, now):
        if era != self.era:
            return
        if self.state is HALF_OPEN:
            self.probes -= 1
        if how == "failure":
            self.row += 1
            if self.state is HALF_OPEN or self.row >= self.config.failure_threshold:
                self.become(OPEN, now)
        elif how == "success":
            self.row = 0
            if self.state is HALF_OPEN:
                self.proofs += 1
                if self.proofs >= self.config.half_open_max_calls:
                    self.become(CLOSED, now)


# Mostly the call begun last ends, and time passes in whole or half recoveries, and lists are long (without `min_size`
# five steps are usual): else few ways lead through HALF_OPEN.
ends = st.tuples(
    st.sampled_from(["success", "failure", "failure", "neither"]), st.sampled_from([-1, -1, -1, 0]) | st.integers(0, 50)
)
wait = st.tuples(st.just("wait"), st.sampled_from([0.5, 1.0, 1.0]) | st.floats(0, 2))
steps = st.lists(st.one_of(st.just(("begin",)), ends, wait), min_size=30, max_size=120)


@settings(max_examples=300, deadline=None)
@given(steps=steps, threshold=st.sampled_from([1, 1, 2, 3, 6]), recovery=st.floats(0.5, 10), probes=st.integers(1, 3))
def test_the_breaker_goes_from_state_to_state_as_its_model_does(steps, threshold, recovery, probes):
    """For any sequence of results, also of calls that overlap and end after the state has changed.

    **Feature: grpc-microservices-support, Property 8: Circuit Breaker State Transitions**
    **Feature: grpc-code-review, Property 6: Circuit Breaker State Transitions**
    """
    config = CircuitBreakerConfig(threshold, recovery, minimum_calls=NEVER_BY_RATIO, half_open_max_calls=probes)
    clock = FixedClock(0.0)
    told = []
    breaker, model = CircuitBreaker(config, clock, lambda *change: told.append(change)), Model(config)
    calls = []
    for step in steps:
        before = model.state
        if step[0] == "wait":
            clock.advance(step[1] * recovery)
        elif step[0] == "begin":
            ticket, era = breaker.admit(), model.admit(clock())
            assert bool(ticket) == (era is not None)
            if ticket:
                calls.append((ticket, era))
        elif calls:
            ticket, era = calls.pop(step[1] % len(calls))
            getattr(breaker, step[0])(ticket)
            model.end(era, step[0], clock())
        assert breaker.state is model.state
        if model.state is not before:
            assert told[-1][1] is model.state
        left = model.opened + recovery - clock() if model.state is OPEN else 0
        assert breaker.retry_after == pytest.approx(max(0, left))
    changes = {(CLOSED, OPEN), (OPEN, HALF_OPEN), (HALF_OPEN, OPEN), (HALF_OPEN, CLOSED)}
    assert all((before, after) in changes and why for before, after, why in told)


@pytest.mark.parametrize("how", ["success", "failure", "neither"])
def test_a_call_from_before_proves_nothing_after(how):
    clock = FixedClock(0.0)
    breaker = CircuitBreaker(CircuitBreakerConfig(1, 5), clock)
    old, failed = breaker.admit(), breaker.admit()
    breaker.failure(failed)
    getattr(breaker, how)(old)
    assert breaker.state is OPEN
    assert not breaker.admit()
    clock.advance(5)
    assert breaker.admit()
    getattr(breaker, how)(old)
    assert breaker.state is HALF_OPEN
    assert not breaker.admit()  # the probe under way is still the only one


@settings(max_examples=150, deadline=None)
@given(
    results=st.lists(st.tuples(st.booleans(), st.floats(0, 3)), min_size=20, max_size=100),
    ratio=st.floats(0.1, 1),
)
def test_a_share_of_failures_within_the_window_opens_it(results, ratio):
    """P8: by share. Slices make the window at most a tenth shorter than it says."""
    config = CircuitBreakerConfig(NEVER_BY_RATIO, 30, failure_ratio=ratio, window=10, minimum_calls=5)
    clock = FixedClock(0.0)
    breaker = CircuitBreaker(config, clock)
    ages = []  # of all calls, the oldest first, and whether each succeeded
    for good, pause in results:
        clock.advance(pause)
        ages = [(age + pause, was_good) for age, was_good in ages] + [(0.0, good)]
        ticket = breaker.admit()
        (breaker.success if good else breaker.failure)(ticket)
        expected = set()
        for first, (age, _) in enumerate(ages):
            if age <= 10 + 1e-9 and (first == 0 or ages[first - 1][0] >= 9 - 1e-9):
                counted = [was_good for _, was_good in ages[first:]]
                bad = counted.count(False)
                expected.add(not good and len(counted) >= 5 and bad >= len(counted) * ratio)
        assert (breaker.state is OPEN) in expected
        if breaker.state is OPEN:
            return


def ends_at(clock, breaker, seconds, results):
    clock.advance(seconds - clock())
    for good in results:
        (breaker.success if good else breaker.failure)(breaker.admit())


def test_the_window_keeps_what_is_younger_and_drops_what_is_older():
    config = CircuitBreakerConfig(NEVER_BY_RATIO, failure_ratio=0.5, window=20, minimum_calls=4)
    young, old = CircuitBreaker(config, clock := FixedClock(0.0)), CircuitBreaker(config, later := FixedClock(0.0))
    ends_at(clock, young, 0, [False, False])
    ends_at(clock, young, 18, [True, True, False])
    assert young.state is OPEN
    ends_at(later, old, 0, [False, False])
    ends_at(later, old, 20, [True, True, False])
    assert old.state is CLOSED
    ends_at(later, old, 38, [False])  # 2 of 4
    assert old.state is OPEN


def test_each_change_is_told_with_its_reason():
    told = []
    config = CircuitBreakerConfig(NEVER_BY_RATIO, window=20, minimum_calls=4)
    breaker = CircuitBreaker(config, clock := FixedClock(0.0), lambda *change: told.append(change))
    ends_at(clock, breaker, 0, [True, False, True, False])
    breaker.connection(ready=False)
    breaker.connection(ready=True)
    assert told == [
        (CLOSED, OPEN, "2 of 4 calls failed within 20 s"),
        (OPEN, HALF_OPEN, "the connection is back"),
    ]


@pytest.mark.parametrize(
    "wrong",
    [
        {"failure_threshold": 0},
        {"minimum_calls": 0},
        {"half_open_max_calls": 0},
        {"recovery_timeout": 0},
        {"recovery_timeout": float("inf")},
        {"window": 0},
        {"window": float("inf")},
        {"failure_ratio": 0},
        {"failure_ratio": 1.01},
        {"failure_ratio": float("nan")},
    ],
    ids=str,
)
def test_a_breaker_that_could_not_work_is_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        CircuitBreakerConfig(**wrong)


def test_the_least_of_each_setting_is_taken():
    config = CircuitBreakerConfig(1, 1e-3, failure_ratio=1, window=1e-3, minimum_calls=1, half_open_max_calls=1)
    breaker = CircuitBreaker(config, FixedClock(0.0))
    breaker.failure(breaker.admit())
    assert breaker.state is OPEN


def fail(*, times, after):
    return [Answer(StatusCode.UNAVAILABLE, after)] * times


def test_an_open_breaker_answers_at_once_and_says_so():
    """P8: through the whole client."""

    async def scenario():
        channel = ScriptedChannel(*fail(times=3, after=0.1), Answer())
        config = CircuitBreakerConfig(failure_threshold=3, recovery_timeout=7)
        stub, _ = over_script(channel, breaker=config)
        for _ in range(3):
            with pytest.raises(RemoteUnavailableError) as failed:
                await stub.Write(text())
            assert not isinstance(failed.value, CircuitOpenError)
        loop = asyncio.get_running_loop()
        opened = loop.time()
        with pytest.raises(CircuitOpenError) as refused:
            await stub.Write(text())
        assert loop.time() == opened
        error = refused.value
        assert error.status is StatusCode.UNAVAILABLE
        assert (error.reason, error.domain, error.attempts) == ("CIRCUIT_OPEN", "grpc_common.client", 0)
        assert error.retry_after == pytest.approx(7)
        assert dict(error.trailers)[STATUS_KEY]
        assert len(channel.attempts) == 3
        await stub.Read(text())  # another method has a breaker of its own
        await asyncio.sleep(6.9)
        with pytest.raises(CircuitOpenError):
            await stub.Write(text())
        await asyncio.sleep(0.2)
        await asyncio.gather(stub.Write(text()))
        await stub.Write(text())

    virtual_time.run(scenario())


def test_a_call_that_tries_for_long_does_not_keep_others_out():
    """Its reply is far away, as that of a quiet stream may be: another is let through as after a failure."""

    async def scenario():
        breaker = CircuitBreakerConfig(1, recovery_timeout=1.0)
        answers = [Answer(StatusCode.UNAVAILABLE), Answer(seconds=TIMEOUT - 1.0), Answer()]
        stub, connection = over_script(ScriptedChannel(*answers), breaker=breaker)
        await stub.Write(text()).code()
        await asyncio.sleep(1.0)
        slow = stub.Write(text())
        with pytest.raises(CircuitOpenError):
            await stub.Write(text())
        await asyncio.sleep(1.0)
        await stub.Write(text())
        method = connection.method(path("Write"), request_streaming=False, response_streaming=False)
        assert method.breaker.state is CLOSED
        slow.cancel()

    virtual_time.run(scenario())


def test_half_open_lets_few_through_and_a_cancelled_probe_makes_room():
    async def scenario():
        channel = ScriptedChannel(*fail(times=1, after=0), Answer(seconds=1))
        stub, connection = over_script(channel, breaker=CircuitBreakerConfig(1, 5))
        with pytest.raises(RemoteUnavailableError):
            await stub.Write(text())
        await asyncio.sleep(5)
        probe = stub.Write(text())
        with pytest.raises(CircuitOpenError):
            await stub.Write(text())
        probe.cancel()
        with pytest.raises(asyncio.CancelledError):
            await probe
        await stub.Write(text())
        breaker = connection.method(path("Write"), request_streaming=False, response_streaming=False).breaker
        assert breaker.state is CLOSED

    virtual_time.run(scenario())


@pytest.mark.parametrize("status", [status for status in StatusCode if status is not StatusCode.DEADLINE_EXCEEDED])
def test_only_what_speaks_of_the_infrastructure_counts(status):
    async def scenario():
        channel = ScriptedChannel(Answer(status))
        stub, _ = over_script(channel, breaker=CircuitBreakerConfig(3))
        for _ in range(10):
            assert await stub.Write(text()).code() is status  # also of those that the open breaker answers
        return len(channel.attempts)

    assert virtual_time.run(scenario()) == (3 if status is StatusCode.UNAVAILABLE else 10)


def test_calls_that_are_not_answered_in_time_count():
    async def scenario():
        channel = ScriptedChannel(Answer(seconds=1000))
        stub, _ = over_script(channel, breaker=CircuitBreakerConfig(2))
        statuses = [await stub.Write(text(), timeout=1).code() for _ in range(3)]
        return statuses, len(channel.attempts)

    statuses, sent = virtual_time.run(scenario())
    assert statuses == [StatusCode.DEADLINE_EXCEEDED] * 2 + [StatusCode.UNAVAILABLE]
    assert sent == 2


def test_calls_without_time_say_nothing_of_the_target():
    async def scenario():
        stub, _ = over_script(ScriptedChannel(Answer()), breaker=CircuitBreakerConfig(1))
        assert await stub.Write(text(), timeout=0).code() is StatusCode.DEADLINE_EXCEEDED
        await stub.Write(text())

    virtual_time.run(scenario())


def test_a_call_counts_once_however_many_attempts_it_took():
    async def scenario():
        channel = ScriptedChannel(Answer(StatusCode.UNAVAILABLE))
        stub, _ = over_script(channel, breaker=CircuitBreakerConfig(2))
        for _ in range(2):
            with pytest.raises(RemoteError) as failed:
                await stub.Read(text())
            assert not isinstance(failed.value, CircuitOpenError)
        with pytest.raises(CircuitOpenError):
            await stub.Read(text())

    virtual_time.run(scenario())


def test_a_connection_that_is_back_is_tried_before_the_time_is_up():
    async def scenario():
        channel = ScriptedChannel(*fail(times=1, after=0), Answer())
        channel.state = grpc.ChannelConnectivity.TRANSIENT_FAILURE
        stub, _ = over_script(channel, breaker=CircuitBreakerConfig(1, 30))
        with pytest.raises(RemoteUnavailableError):
            await stub.Write(text())
        with pytest.raises(CircuitOpenError):
            await stub.Write(text())
        channel.state = grpc.ChannelConnectivity.READY
        await stub.Write(text())

    virtual_time.run(scenario())


async def test_the_state_is_logged_and_shown():
    registry = CollectorRegistry()

    async def refuse(request, context):
        await context.abort(StatusCode.UNAVAILABLE, "not now")

    config = CircuitBreakerConfig(2, 30)
    with capture_logs() as lines:
        async with (
            make_factory(registry=registry, circuit_breaker_config=config) as factory,
            serving(Server(Write=refuse)) as target,
        ):
            stub = Stub(await factory.create_channel(target, secure=False))
            labels = {"target": f"dns:///{target}", "grpc_path": path("Write")}
            assert registry.get_sample_value("grpc_client_breaker_state", labels) == 0
            for _ in range(3):
                with pytest.raises(RemoteUnavailableError):
                    await stub.Write(text())
            assert registry.get_sample_value("grpc_client_breaker_state", labels) == 2
            counted = {"grpc_type": "unary", "grpc_service": path("")[1:-1], "grpc_method": "Write"}
            assert registry.get_sample_value("grpc_client_breaker_refused_total", counted) == 1
            assert registry.get_sample_value("grpc_client_attempts_total", counted) == 2
    (line,) = [line for line in lines if line["event"] == "circuit breaker"]
    assert (line["before"], line["after"], line["log_level"]) == ("CLOSED", "OPEN", "warning")


STEPS = st.lists(
    st.tuples(st.sampled_from(["hurried", "patient", "cancelled"]), st.floats(0.01, 0.99)), min_size=10, max_size=60
)


@settings(max_examples=200, deadline=None)
@given(latency=st.floats(0.001, 2.0), steps=STEPS)
def test_callers_in_a_hurry_shut_nobody_out(latency, steps):
    """A target that always answers, in its time: those who wait for it get their answers, whatever others do.

    **Feature: grpc-microservices-support, Property 8: Circuit Breaker State Transitions**
    """

    async def scenario():
        stub, _ = over_script(ScriptedChannel(Answer(seconds=latency)))
        seen, known = [], False
        for kind, share in steps:
            # As long as nobody knows how long answers take, a fifth of the policy's timeout is reckoned fair.
            hurried = share * (latency if known else min(latency, TIMEOUT / 5))
            call = stub.Write(text(), timeout=hurried if kind == "hurried" else latency * (2 + share))
            if kind == "cancelled":
                await asyncio.sleep(latency * share)
                call.cancel()
            seen.append((kind, await call.code()))
            known = known or kind == "patient"
        return seen

    expected = {
        "hurried": StatusCode.DEADLINE_EXCEEDED,
        "patient": StatusCode.OK,
        "cancelled": StatusCode.CANCELLED,
    }
    assert [(kind, status) for kind, status in virtual_time.run(scenario()) if status is not expected[kind]] == []


@settings(max_examples=100, deadline=None)
@given(
    latency=st.floats(0.001, 1.0), answered=st.integers(0, 20), more=st.floats(2.1, 5.0), threshold=st.integers(1, 5)
)
def test_a_target_that_falls_silent_is_given_up_by_those_who_waited(latency, answered, more, threshold):
    """**Feature: grpc-microservices-support, Property 8: Circuit Breaker State Transitions**"""

    async def scenario():
        channel = ScriptedChannel(*[Answer(seconds=latency)] * answered, Answer(seconds=10_000))
        stub, _ = over_script(channel, breaker=CircuitBreakerConfig(threshold))
        for _ in range(answered):
            await stub.Write(text())
        patience = latency * more if answered else None
        return [await stub.Write(text(), timeout=patience).code() for _ in range(threshold + 1)]

    statuses = virtual_time.run(scenario())
    assert statuses == [StatusCode.DEADLINE_EXCEEDED] * threshold + [StatusCode.UNAVAILABLE]


@pytest.mark.parametrize("name", ["Write", "List"])
async def test_a_hurried_caller_of_a_real_server_shuts_nobody_out(name):
    async def slow(request, context):
        await asyncio.sleep(0.2)
        return request

    async def slow_stream(request, context):
        yield await slow(request, context)

    async with make_factory() as factory, serving(Server(Write=slow, List=slow_stream)) as target:
        method = getattr(Stub(await factory.create_channel(target, secure=False)), name)

        async def status(seconds):
            call = method(text(), timeout=seconds)
            return await call.code() if name == "Write" else await stream_status(call)

        assert [await status(0.02) for _ in range(8)] == [StatusCode.DEADLINE_EXCEEDED] * 8
        assert await status(30) is StatusCode.OK


async def stream_status(call):
    try:
        async for _ in call:
            pass
    except RemoteError as error:
        return error.status
    return StatusCode.OK


@pytest.mark.parametrize("form", ["generator", "by hand"])
@pytest.mark.parametrize("sent_all", [True, False])
async def test_a_target_is_not_late_while_it_waits_for_requests(form, sent_all):
    async def waits(requests, context):
        async for _ in requests:
            pass
        await asyncio.Event().wait()

    async def source():
        yield text()
        if not sent_all:
            await asyncio.Event().wait()

    breaker = CircuitBreakerConfig(1)
    async with make_factory(circuit_breaker_config=breaker) as factory, serving(Server(Pour=waits)) as target:
        channel = await factory.create_channel(target, secure=False)
        method = channel.connection.method(path("Pour"), request_streaming=True, response_streaming=False)
        method.latency.record(0.001)  # so that the time below is fair
        call = Stub(channel).Pour(source() if form == "generator" else None, timeout=0.5)
        if form == "by hand":
            await call.write(text())
            if sent_all:
                await call.done_writing()
        assert await call.code() is StatusCode.DEADLINE_EXCEEDED
    assert method.breaker.state is (BreakerState.OPEN if sent_all else BreakerState.CLOSED)
