"""What becomes of calls when servers fail, disappear, or say nothing any more."""

import asyncio
import time
from collections import Counter
from random import Random

import pytest
from grpc import StatusCode

from client_kit import Server, Stub, echo, make_factory, serving, text
from grpc_common.chain import Chain
from grpc_common.client.breaker import CircuitBreakerConfig
from grpc_common.client.remote_error import CircuitOpenError, RemoteError, RemoteTimeoutError, RemoteUnavailableError
from grpc_common.client.retry_config import RetryConfig
from grpc_common.conformance.cable import Cable
from grpc_common.fault import Fault, FaultInterceptor
from grpc_common.interceptors.error import ErrorInterceptor
from grpc_common.keepalive import KEEPALIVE, Keepalive
from grpc_common.server import OPTIONS

CALLS = 2000
AT_ONCE = 10


def faults(probability):
    fault = Fault(status=StatusCode.UNAVAILABLE, probability=probability)
    return [Chain([ErrorInterceptor(), FaultInterceptor([fault], Random(7))])]  # noqa: S311  # to be repeated


async def many(method, calls, at_once=AT_ONCE):
    """Make so many calls and return how they ended."""
    ended = Counter()
    numbers = iter(range(calls))

    async def caller():
        for number in numbers:
            ended[await method(text(str(number))).code()] += 1

    await asyncio.gather(*(caller() for _ in range(at_once)))
    return ended


async def test_nearly_all_calls_that_may_be_repeated_succeed_where_one_in_ten_fails():
    server = Server(Put=echo)
    async with serving(server, interceptors=faults(0.1)) as target, make_factory() as factory:
        stub = Stub(await factory.create_channel(target, secure=False))
        ended = await many(stub.Put, CALLS)
    print(f"{ended[StatusCode.OK]} of {CALLS} calls succeeded, with {server.entered['Put']} handlers entered")
    assert ended[StatusCode.OK] >= CALLS * 0.999


async def test_nothing_that_may_not_be_repeated_runs_twice():
    done = Counter()

    async def work(request, context):
        done[request.value] += 1
        if int(request.value) % 10 == 0:  # the work is done, and nobody hears of it
            await context.abort(StatusCode.UNAVAILABLE, "lost")
        return request

    async with serving(Server(Write=work)) as target, make_factory() as factory:
        stub = Stub(await factory.create_channel(target, secure=False))
        ended = await many(stub.Write, 500)
    assert ended == {StatusCode.OK: 450, StatusCode.UNAVAILABLE: 50}
    assert set(done.values()) == {1}
    assert len(done) == 500


async def test_an_outage_does_not_become_a_storm():
    async def refuse(request, context):
        await context.abort(StatusCode.UNAVAILABLE, "down")

    server = Server(Put=refuse)
    async with serving(server) as target, make_factory() as factory:
        stub = Stub(await factory.create_channel(target, secure=False))
        await many(stub.Put, 5, at_once=1)  # opens the breaker
        before = server.entered["Put"]
        refused = await many(stub.Put, 500)
    after = server.entered["Put"] - before
    print(f"{before} attempts of 5 calls with the breaker closed, {after} of 500 calls with it open")
    assert refused == {StatusCode.UNAVAILABLE: 500}
    assert after / 500 <= 0.1 * before / 5


async def test_even_with_closed_breakers_retries_stay_a_share_of_the_calls():
    async def refuse(request, context):
        await context.abort(StatusCode.UNAVAILABLE, "down")

    server = Server(Put=refuse)
    breaker = CircuitBreakerConfig(failure_threshold=10**6, minimum_calls=10**6)
    async with serving(server) as target, make_factory(circuit_breaker_config=breaker) as factory:
        stub = Stub(await factory.create_channel(target, secure=False))
        await many(stub.Put, 500)
    assert server.entered["Put"] <= 500 + 50 + AT_ONCE  # the half of the bucket that may be used


@pytest.mark.parametrize(("outage", "within"), [(0.8, 1.0), (4.0, 2.5)])
async def test_after_an_outage_calls_succeed_soon(outage, within):
    for _ in range(3):  # one that this process was held up in says nothing
        if (took := await back_after(outage)) <= within:
            break
    assert took <= within


async def back_after(outage):
    """Return the seconds that calls go on to fail after so many seconds without a server."""
    server = Server(Read=echo, Write=echo)
    async with make_factory() as factory:
        async with serving(server) as target:
            stub = Stub(await factory.create_channel(target, secure=False))
            await stub.Read(text())
        began = time.monotonic()
        while time.monotonic() - began < outage:
            for method in (stub.Read, stub.Write):
                with pytest.raises((RemoteUnavailableError, RemoteTimeoutError)):
                    await method(text(), timeout=0.2)
        async with serving(server, port=int(target.rpartition(":")[2])):
            back = time.monotonic()
            for method in (stub.Read, stub.Write):
                while True:
                    try:
                        await method(text())
                        break
                    except RemoteError:
                        await asyncio.sleep(0.01)
            took = time.monotonic() - back
    print(f"calls succeeded {took:.2f} s after an outage of {outage} s")
    return took


async def test_a_connection_that_swallows_everything_is_found():
    quick = Keepalive(interval=0.3, timeout=0.3)
    async with (
        serving(Server(Write=echo, List=silence), options=quick.server_options()) as target,
        Cable(int(target.rpartition(":")[2])) as cable,
        make_factory(keepalive=quick) as factory,
    ):
        stub = Stub(await factory.create_channel(f"127.0.0.1:{cable.port}", secure=False))
        stream = stub.List(text(), timeout=60)
        assert await anext(stream)
        cable.hold()
        async with asyncio.timeout(10):
            with pytest.raises(RemoteUnavailableError):
                await anext(stream)


async def silence(request, context):
    yield text("first")
    await asyncio.Event().wait()


async def pinged(options, interval=0.1, seconds=6):
    """Return what becomes of a silent stream whose client pings all the time."""
    async with (
        serving(Server(List=silence), options=options) as target,
        make_factory(keepalive=Keepalive(interval, 5.0)) as factory,
    ):
        stream = Stub(await factory.create_channel(target, secure=False)).List(text(), timeout=seconds)
        try:
            async for _ in stream:
                pass
        except RemoteError as error:
            return error.status, error.message


async def test_our_own_preset_is_never_too_much_for_our_servers():
    ours, others = await asyncio.gather(pinged(Keepalive(0.1, 5.0).server_options()), pinged(()))
    assert ours[0] is StatusCode.DEADLINE_EXCEEDED
    assert others == (StatusCode.UNAVAILABLE, "Too many pings")  # ENHANCE_YOUR_CALM, from a server that has no preset


def test_servers_and_clients_have_the_same_preset():
    assert set(KEEPALIVE.server_options()) <= set(OPTIONS)
    client, server = dict(KEEPALIVE.client_options()), dict(KEEPALIVE.server_options())
    assert server["grpc.http2.min_ping_interval_without_data_ms"] < client["grpc.keepalive_time_ms"]


class TestStreams:
    """What is repeated of a stream, and what is not."""

    async def test_replies_until_the_first_message(self):
        failures = iter([True, True, False])

        async def behavior(request, context):
            if next(failures):
                await context.abort(StatusCode.UNAVAILABLE, "not yet")
            for number in range(3):
                yield text(str(number))

        server = Server(Watch=behavior)
        async with serving(server) as target, make_factory() as factory:
            stub = Stub(await factory.create_channel(target, secure=False))
            assert [reply.value async for reply in stub.Watch(text())] == ["0", "1", "2"]
        assert server.entered["Watch"] == 3

    async def test_replies_not_after_the_first_message(self):
        async def behavior(request, context):
            yield text("0")
            await context.abort(StatusCode.UNAVAILABLE, "lost")

        server = Server(Watch=behavior)
        async with serving(server) as target, make_factory() as factory:
            stub = Stub(await factory.create_channel(target, secure=False))
            stream = stub.Watch(text())
            assert (await anext(stream)).value == "0"
            with pytest.raises(RemoteUnavailableError):
                await anext(stream)
        assert server.entered["Watch"] == 1

    @pytest.mark.parametrize("form", ["list", "generator", "iterator"])
    @pytest.mark.parametrize("read", [0, 2, 5])
    @pytest.mark.parametrize("method", ["Gather", "Talk"])
    async def test_requests_are_sent_again_whole(self, form, read, method):
        seen = []

        async def gather(requests, context):
            mine = []
            seen.append(mine)
            if read:
                async for request in requests:
                    mine.append(request.value)
                    if len(seen) < 3 and len(mine) == read:
                        break
            if len(seen) < 3:
                await context.abort(StatusCode.UNAVAILABLE, "not yet")
            mine += [request.value async for request in requests]
            return text("".join(mine))

        async def talk(requests, context):
            yield await gather(requests, context)

        async def generator():
            for letter in "abcde":
                await asyncio.sleep(0)
                yield text(letter)

        letters = [text(letter) for letter in "abcde"]
        source = {"list": letters, "generator": generator(), "iterator": iter(letters)}[form]
        async with serving(Server(Gather=gather, Talk=talk)) as target, make_factory() as factory:
            stub = Stub(await factory.create_channel(target, secure=False))
            call = getattr(stub, method)(source)
            reply = await call if method == "Gather" else await anext(call)
            assert reply.value == "abcde"
        assert len(seen) == 3

    @pytest.mark.parametrize("form", ["long", "written"])
    async def test_requests_that_are_not_kept_are_sent_once(self, form):
        async def behavior(requests, context):
            async for _ in requests:
                pass
            await context.abort(StatusCode.UNAVAILABLE, "no")

        async def long():
            for _ in range(20):
                yield text("x" * 100)

        server = Server(Gather=behavior)
        retry = RetryConfig(buffer_bytes=1000)
        async with serving(server) as target, make_factory(retry_config=retry) as factory:
            stub = Stub(await factory.create_channel(target, secure=False))
            if form == "long":
                call = stub.Gather(long())
            else:
                call = stub.Gather()
                await call.write(text("a"))
                await call.done_writing()
            with pytest.raises(RemoteUnavailableError):
                await call
        assert server.entered["Gather"] == 1


async def test_a_breaker_that_is_open_for_streams_refuses_them_at_once():
    async def refuse(request, context):
        await context.abort(StatusCode.UNAVAILABLE, "down")
        yield

    config = CircuitBreakerConfig(failure_threshold=1)
    async with serving(Server(List=refuse)) as target, make_factory(circuit_breaker_config=config) as factory:
        stub = Stub(await factory.create_channel(target, secure=False))
        with pytest.raises(RemoteUnavailableError):
            await anext(stub.List(text()))
        with pytest.raises(CircuitOpenError):
            await anext(stub.List(text()))


async def test_servers_that_report_not_serving_get_no_calls():
    from grpc_health.v1 import health, health_pb2, health_pb2_grpc

    served = [Server(Put=echo), Server(Put=echo)]
    servicers = [health.aio.HealthServicer(), health.aio.HealthServicer()]
    for server, servicer in zip(served, servicers, strict=True):
        plain = server.register

        def register(running, plain=plain, servicer=servicer):
            plain(running)
            health_pb2_grpc.add_HealthServicer_to_server(servicer, running)

        server.register = register
    await servicers[0].set("", health_pb2.HealthCheckResponse.NOT_SERVING)
    await servicers[1].set("", health_pb2.HealthCheckResponse.SERVING)
    async with serving(served[0]) as one, serving(served[1]) as two, make_factory(health_check=True) as factory:
        stub = Stub(await factory.create_channel(f"ipv4:{one},{two}", secure=False))
        for _ in range(20):
            await stub.Put(text(), wait_for_ready=True)
        assert [server.entered["Put"] for server in served] == [0, 20]
        await servicers[0].set("", health_pb2.HealthCheckResponse.SERVING)
        async with asyncio.timeout(10):
            while not served[0].entered["Put"]:
                await stub.Put(text())
