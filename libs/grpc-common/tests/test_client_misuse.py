"""What is wrong on the caller's own side: refused before anything is sent, and never held against the target."""

import asyncio
import datetime as dt
import gc

import grpc
import pytest
from google.protobuf.wrappers_pb2 import Int32Value
from grpc import StatusCode
from hypothesis import example, given, settings
from hypothesis import strategies as st

from client_kit import Server, Stub, make_factory, path, serving, settled, text
from grpc_common.client.breaker import BreakerState, CircuitBreakerConfig
from grpc_common.client.metadata import checked
from grpc_common.client.remote_error import CircuitOpenError, RemoteError

KINDS = {"unary_unary": "Write", "unary_stream": "List", "stream_unary": "Pour", "stream_stream": "Chat"}
REPEATED = {"unary_unary": "Put", "unary_stream": "Watch", "stream_unary": "Gather", "stream_stream": "Talk"}
METHODS = [(kind, name) for names in (KINDS, REPEATED) for kind, name in names.items()]

METADATA = {
    "a dict": ({"x-a": "1"}, TypeError, "dict"),
    "a str": ("x-a", TypeError, "str"),
    "a number": (7, TypeError, "int"),
    "a single": ((("x-a",),), TypeError, "tuple"),
    "an int": ((("x-a", 1),), TypeError, "x-a"),
    "None": ((("x-a", None),), TypeError, "x-a"),
    "a str in -bin": ((("x-a-bin", "1"),), TypeError, "x-a-bin"),
    "None in -bin": ((("x-a-bin", None),), TypeError, "x-a-bin"),
    "bytes for a key": (((b"x-a", "1"),), TypeError, "x-a"),
    "upper case": ((("X-A", "1"),), ValueError, "X-A"),
    "an empty key": ((("", "1"),), ValueError, "''"),
    "a key with a space": ((("x a", "1"),), ValueError, "x a"),
    "a key of HTTP": (((":path", "/"),), ValueError, ":path"),
    "an umlaut": ((("x-a", "\xfc"),), ValueError, "x-a"),
    "a line": ((("x-a", "1\r\nx-b: 2"),), ValueError, "x-a"),
    "half a pair": ((("x-a", "\ud800"),), ValueError, "x-a"),
    "bytes beyond ASCII": ((("x-a", b"\xff"),), ValueError, "x-a"),
    "the timeout": ((("grpc-timeout", "1S"),), ValueError, "grpc-timeout"),
    "a reserved key": ((("grpc-what", "1"),), ValueError, "grpc-what"),
    "the user agent": ((("user-agent", "me"),), ValueError, "user-agent"),
    "too much": ((("x-a", "1"), ("x-big", "v" * 33_000)), ValueError, "x-big"),
    "a connection's": ((("connection", "close"),), ValueError, "connection"),
}
ARGUMENTS = {
    **{f"metadata: {name}": ({"metadata": pairs}, error, key) for name, (pairs, error, key) in METADATA.items()},
    "timeout: nan": ({"timeout": float("nan")}, ValueError, "timeout"),
    "timeout: inf": ({"timeout": float("inf")}, ValueError, "timeout"),
    "timeout: a str": ({"timeout": "1"}, TypeError, "timeout"),
    "timeout: a bool": ({"timeout": True}, TypeError, "timeout"),
    "timeout: a timedelta": ({"timeout": dt.timedelta(seconds=1)}, TypeError, "timeout"),
    "compression": ({"compression": "gzip"}, TypeError, "compression"),
    "credentials": ({"credentials": object()}, TypeError, "credentials"),
    "wait_for_ready": ({"wait_for_ready": "yes"}, TypeError, "wait_for_ready"),
}


async def finish(call):
    """Take everything a call gives; return its last reply."""
    if not hasattr(call, "__aiter__"):
        return await call
    replies = [reply async for reply in call]
    return replies[-1] if replies else None


def requests(kind, *each):
    return list(each) if kind.startswith("stream") else each[0]


async def unary(request, context):
    if hasattr(request, "__aiter__"):
        async for _ in request:
            pass
    return text("served")


async def stream(request, context):
    yield await unary(request, context)


SERVED = {name: stream if kind.endswith("_stream") else unary for kind, name in METHODS}


class Trial:
    """One method whose breaker is half open: the next call is the only one that may try."""

    def __init__(self, channel, served, kind, name):
        self.call = getattr(Stub(channel), name)
        self.kind = kind
        self.served = served
        self.method = channel.connection.method(
            path(name), request_streaming=kind.startswith("stream"), response_streaming=kind.endswith("_stream")
        )
        self.method.breaker._become(BreakerState.HALF_OPEN, "a test")
        self._entered = served.entered.total()

    async def leaves_no_trace(self, *, sent=False):
        """The target has not been blamed, and the place of the call that may try is free again."""
        await settled(10)
        assert self.method.breaker.state is BreakerState.HALF_OPEN
        assert self.method.metrics.in_flight == 0
        assert sent or self.served.entered.total() == self._entered
        reply = await finish(self.call(requests(self.kind, text()), timeout=30))
        assert reply.value == "served"
        assert self.method.breaker.state is BreakerState.CLOSED


@pytest.fixture
async def trial():
    """Returns what makes a trial of a method."""
    served = Server(**SERVED)
    async with make_factory() as factory, serving(served) as target:
        channel = await factory.create_channel(target, secure=False)
        yield lambda kind, name: Trial(channel, served, kind, name)


@pytest.mark.parametrize("argument", ARGUMENTS)
@pytest.mark.parametrize(("kind", "name"), METHODS)
async def test_a_wrong_argument_is_refused_by_name(trial, kind, name, argument):
    arguments, error, key = ARGUMENTS[argument]
    probe = trial(kind, name)
    with pytest.raises(error, match=key):
        probe.call(requests(kind, text()), **arguments)
    await probe.leaves_no_trace()


@pytest.mark.parametrize("wrong", [Int32Value(value=1), "text", b"bytes", None, Int32Value, object()])
@pytest.mark.parametrize(("kind", "name"), METHODS)
async def test_a_message_of_another_class_is_refused(trial, kind, name, wrong):
    probe = trial(kind, name)
    with pytest.raises(TypeError, match=f"{name} takes google.protobuf.StringValue"):
        probe.call(requests(kind, wrong))
    await probe.leaves_no_trace()


@pytest.mark.parametrize("place", [0, 3])
@pytest.mark.parametrize(("kind", "name"), [pair for pair in METHODS if pair[0].startswith("stream")])
async def test_each_message_of_a_stream_is_looked_at(trial, kind, name, place):
    given = [text()] * place + [Int32Value(value=1)] + [text()] * 2

    async def slowly():
        for each in given:
            yield each

    async def by_hand(call):
        for each in given:
            await call.write(each)

    for source in (given, tuple(given), iter(given), slowly()):
        probe = trial(kind, name)
        with pytest.raises(TypeError, match=r"takes google\.protobuf\.StringValue, not google\.protobuf\.Int32Value"):
            await finish(probe.call(source, timeout=30))
        await probe.leaves_no_trace(sent=not isinstance(source, list | tuple))
    probe = trial(kind, name)
    with pytest.raises(TypeError, match=r"takes google\.protobuf\.StringValue, not google\.protobuf\.Int32Value"):
        await by_hand(call := probe.call(timeout=30))
    with pytest.raises(TypeError, match="takes google"):
        await finish(call)
    await probe.leaves_no_trace(sent=True)


@pytest.mark.parametrize("source", [7, text(), object(), "abc", b"abc"])
@pytest.mark.parametrize(("kind", "name"), [pair for pair in METHODS if pair[0].startswith("stream")])
async def test_what_is_no_stream_of_requests_is_refused(trial, kind, name, source):
    probe = trial(kind, name)
    with pytest.raises(TypeError):
        probe.call(source)
    await probe.leaves_no_trace()


@pytest.mark.parametrize("gives", [None, "text", bytearray(b"x"), 5])
@pytest.mark.parametrize("kind", KINDS)
async def test_a_serialiser_that_gives_no_bytes_is_told(kind, gives):
    async with make_factory() as factory, serving(Server(**SERVED)) as target:
        channel = await factory.create_channel(target, secure=False)
        call = getattr(channel, kind)(path(KINDS[kind]), lambda _: gives, None)
        with pytest.raises(TypeError, match="bytes"):
            await finish(call(requests(kind, text())))
        plain = getattr(channel, kind)(path(KINDS[kind]))
        with pytest.raises(TypeError, match="bytes"):
            await finish(plain(requests(kind, 5)))


names = st.text("abcxyz019_.-", min_size=1, max_size=12) | st.text(max_size=6)
keys = names | names.map(lambda name: f"{name}-bin") | st.sampled_from(["grpc-x", "te", "host"])
values = st.text(max_size=20) | st.binary(max_size=20) | st.none() | st.integers()


@settings(max_examples=200, deadline=None)
@given(pairs=st.lists(st.tuples(keys, values), max_size=4))
@example([("x-a", "\x7f")])
@example([("x-a", "\xa0")])
@example([("-bin", b"")])
async def test_metadata_is_sent_as_it_is_or_not_at_all(pairs):
    seen = []

    async def behavior(request, context):
        seen.append([(key, value) for key, value in context.invocation_metadata() if key != "user-agent"])
        return request

    try:
        found = checked(pairs)
    except (TypeError, ValueError):
        return
    async with make_factory() as factory, serving(Server(Write=behavior)) as target:
        await Stub(await factory.create_channel(target, secure=False)).Write(text(), metadata=found)
    sent = [(key, value.decode() if isinstance(value, bytes) and key[-4:] != "-bin" else value) for key, value in found]
    tracing = {"traceparent", "tracestate", "baggage"}
    assert [pair for pair in seen[0] if pair[0] not in tracing] == [pair for pair in sent if pair[0] not in tracing]


class BrokenError(Exception):
    """What a part of our own side raises."""


class Fatal(BaseException):
    """The same, and no Exception."""


@pytest.mark.parametrize("problem", [BrokenError, ValueError, asyncio.CancelledError, grpc.aio.UsageError])
@pytest.mark.parametrize(("kind", "name"), [pair for pair in METHODS if pair[0].startswith("stream")])
async def test_what_a_source_raises_ends_the_call(trial, kind, name, problem):
    async def source():
        yield text()
        raise problem

    probe = trial(kind, name)
    with pytest.raises(problem):
        await finish(probe.call(source(), timeout=30))
    await probe.leaves_no_trace(sent=True)


@pytest.mark.parametrize("problem", [BrokenError, Fatal, grpc.aio.UsageError])
@pytest.mark.parametrize(("kind", "name"), METHODS)
async def test_what_the_transport_raises_ends_the_call(trial, kind, name, problem):
    probe = trial(kind, name)
    real, probe.call._transport = probe.call._transport, lambda: raising(problem)
    with pytest.raises(problem):
        await finish(probe.call(requests(kind, text())))
    probe.call._transport = real
    await probe.leaves_no_trace()


def raising(problem):
    def send(*args, **kwargs):
        raise problem

    return send


@pytest.mark.parametrize(("kind", "name"), [pair for pair in METHODS if pair[0].endswith("_stream")])
async def test_what_reading_raises_ends_the_call(trial, kind, name):
    probe = trial(kind, name)
    held = asyncio.Event()

    class Reading:
        """A call of grpc.aio whose replies cannot be read."""

        def __init__(self, inner):
            self._inner = inner

        def __getattr__(self, name):
            return getattr(self._inner, name)

        async def __aiter__(self):
            await held.wait()
            raise BrokenError
            yield

    real = probe.call._transport
    transport = real()
    probe.call._transport = lambda: lambda *args, **kwargs: Reading(transport(*args, **kwargs))
    call = probe.call(requests(kind, text()), timeout=30)
    held.set()
    with pytest.raises(BrokenError):
        await anext(call)
    with pytest.raises(BrokenError):
        await anext(call)
    probe.call._transport = real
    await probe.leaves_no_trace(sent=True)


@pytest.mark.parametrize("end", ["cancelled", "dropped", "closed", "timed out", "task cancelled"])
@pytest.mark.parametrize(("kind", "name"), METHODS)
async def test_a_call_that_is_given_up_makes_room(kind, name, end):
    silent = asyncio.Event()
    patient = []

    async def unary_silent(request, context):
        if not patient:
            await silent.wait()
        return await unary(request, context)

    async def stream_silent(request, context):
        yield await unary_silent(request, context)

    served = Server(**{name: stream_silent if kind.endswith("_stream") else unary_silent})
    async with make_factory() as factory, serving(served) as target:
        probe = Trial(await factory.create_channel(target, secure=False), served, kind, name)
        call = probe.call(requests(kind, text()), timeout=30)
        if end == "cancelled":
            call.cancel()
        elif end == "dropped":
            if kind.endswith("_unary"):
                call.cancel()  # it would run on
            del call
            gc.collect()
        elif end == "closed":
            waiting = finish(call)
            waiting.send(None)
            if kind.endswith("_unary"):
                call.cancel()
            waiting.close()
        elif end == "timed out":
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await finish(call)
        else:
            waiting = asyncio.ensure_future(finish(call))
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
        await settled()
        patient.append(True)
        await probe.leaves_no_trace(sent=True)


@pytest.mark.parametrize("written", [0, 1])
@pytest.mark.parametrize(("kind", "name"), [pair for pair in METHODS if pair[0].startswith("stream")])
async def test_a_call_written_by_hand_that_nobody_holds_makes_room(trial, kind, name, written):
    probe = trial(kind, name)
    call = probe.call(timeout=60)
    for _ in range(written):
        await call.write(text())
    del call
    gc.collect()
    await probe.leaves_no_trace(sent=True)


@pytest.mark.parametrize(("kind", "name"), [("unary_stream", "List"), ("stream_stream", "Chat")])
async def test_a_stream_that_is_held_and_never_read_makes_room_when_it_ends(trial, kind, name):
    probe = trial(kind, name)
    call = probe.call(requests(kind, text()), timeout=0.5)
    ended = asyncio.Event()
    call.add_done_callback(lambda _: ended.set())
    await ended.wait()
    await settled()
    assert probe.method.breaker.state is BreakerState.HALF_OPEN
    assert (await finish(probe.call(requests(kind, text()), timeout=30))).value == "served"
    assert probe.method.breaker.state is BreakerState.CLOSED
    with pytest.raises(RemoteError):
        async for _ in call:
            pass


async def test_a_program_that_ends_in_the_midst_of_a_call_ends_it():
    """As asyncio.run does: every task is cancelled, and nobody reads on."""
    served = Server(Watch=stream)
    async with make_factory() as factory:
        channel = await factory.create_channel("127.0.0.1:1", secure=False)
        probe = Trial(channel, served, "unary_stream", "Watch")
        call = probe.call(text(), wait_for_ready=True)
        call._opening.task.cancel()
        await asyncio.wait((call._opening.task,))
        assert probe.method.breaker.admit()
        assert probe.method.metrics.in_flight == 0


async def test_a_request_that_cannot_be_sent_is_not_said_to_be_a_bad_reply(trial):
    probe = trial("unary_unary", "Write")
    secure = grpc.access_token_call_credentials("secret")
    with pytest.raises(grpc.aio.UsageError, match="secure channel"):
        probe.call(text(), credentials=secure)
    await probe.leaves_no_trace()
    assert probe.method.metrics.ended[StatusCode.INTERNAL] == 1


@pytest.mark.parametrize("name", ["Pour", "Chat", "Gather", "Talk"])
async def test_a_stream_of_requests_ends_with_its_deadline(name):
    stuck = asyncio.Event()

    async def unary_stuck(request, context):
        await stuck.wait()

    async def stream_stuck(request, context):
        await stuck.wait()
        yield text()

    async def endless():
        while True:
            yield text("x" * 100_000)

    async def never():
        await stuck.wait()
        yield text()

    async def by_hand(call):
        while True:
            await call.write(text("x" * 100_000))

    behavior = stream_stuck if name in {"Chat", "Talk"} else unary_stuck
    async with make_factory() as factory, serving(Server(**{name: behavior})) as target:
        method = getattr(Stub(await factory.create_channel(target, secure=False)), name)
        for call in (
            finish(method(endless(), timeout=0.3)),
            finish(method(never(), timeout=0.3)),
            finish(method([text("x" * 100_000)] * 50, timeout=0.3)),
            by_hand(method(timeout=0.3)),
        ):
            async with asyncio.timeout(20):
                with pytest.raises(RemoteError) as late:
                    await call
            assert late.value.status is StatusCode.DEADLINE_EXCEEDED


@pytest.mark.parametrize("problem", ["raises", "tells", "gives what cannot be sent"])
async def test_credentials_that_fail_speak_against_nobody(problem):
    """Core says UNAVAILABLE, as if the target were away."""

    class Failing(grpc.AuthMetadataPlugin):
        def __call__(self, context, callback):
            if problem == "raises":
                raise BrokenError("no token")
            if problem == "tells":
                callback((), BrokenError("no token"))
            else:
                callback((("X-A", "1"),), None)

    failing = grpc.metadata_call_credentials(Failing())
    local, served = grpc.local_channel_credentials(), Server(**SERVED)
    async with (
        make_factory(circuit_breaker_config=CircuitBreakerConfig(1)) as factory,
        serving(served, credentials=grpc.local_server_credentials()) as target,
    ):
        channel = await factory.create_channel(target.replace("localhost", "127.0.0.1"), credentials=local)
        for kind, name in METHODS:
            method = getattr(Stub(channel), name)
            for _ in range(3):
                with pytest.raises(RemoteError) as failed:
                    await finish(method(requests(kind, text()), credentials=failing, timeout=30))
                assert failed.value.status is StatusCode.UNAVAILABLE
                assert not isinstance(failed.value, CircuitOpenError)
            assert (await finish(method(requests(kind, text()), timeout=30))).value == "served"
        assert channel.connection.budget.tokens == channel.connection.budget.maximum
