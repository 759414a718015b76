"""grpc.health.v1 as clients see it, over a real server."""

import asyncio
from contextlib import asynccontextmanager
from itertools import pairwise

import grpc
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse, HealthListRequest
from grpc_health.v1.health_pb2_grpc import HealthStub, add_HealthServicer_to_server
from hypothesis import given, settings
from hypothesis import strategies as st

from grpc_common.default_chain import default_chain
from grpc_common.health.check import DependencyCheck
from grpc_common.health.servicer import HealthServicer
from grpc_common.health.statuses import Statuses, TooManyWatchersError

# gRPC's poller wakes every event loop it ever met: one loop for all tests here.
pytestmark = pytest.mark.asyncio(loop_scope="module")

SERVING, NOT_SERVING = HealthCheckResponse.SERVING, HealthCheckResponse.NOT_SERVING
STATUS_UNKNOWN, SERVICE_UNKNOWN = HealthCheckResponse.UNKNOWN, HealthCheckResponse.SERVICE_UNKNOWN


@asynccontextmanager
async def serving(health: HealthServicer, interceptors=()):
    """Serve `health` on a real server; give a stub."""
    server = grpc.aio.server(interceptors=list(interceptors))
    add_HealthServicer_to_server(health, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with health, grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield HealthStub(channel)
    finally:
        await server.stop(None)


@pytest.fixture(params=["plain", "chain"])
def interceptors(request):
    return [] if request.param == "plain" else [default_chain()]


class Switch:
    """A dependency with a switch."""

    def __init__(self, *, works: bool = True) -> None:
        self.works = works

    async def __call__(self) -> bool:
        return self.works

    def check(self, name: str = "db", *, critical: bool = True) -> DependencyCheck:
        return DependencyCheck(
            name=name, probe=self, critical=critical, interval=0.01, timeout=5, failures_to_down=1, successes_to_up=1
        )


async def status(stub: HealthStub, service: str = "") -> int:
    return (await stub.Check(HealthCheckRequest(service=service), timeout=10)).status


async def listed(stub: HealthStub) -> dict[str, int]:
    statuses = (await stub.List(HealthListRequest(), timeout=10)).statuses
    return {name: response.status for name, response in statuses.items()}


async def read(watch) -> int:
    return (await asyncio.wait_for(watch.read(), 10)).status


async def rest(watch, ends_as=grpc.StatusCode.UNAVAILABLE) -> list[int]:
    statuses = []
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        while True:
            statuses.append(await read(watch))
    assert caught.value.code() is ends_as
    return statuses


async def until(condition) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - what it waits for is on the other side of a connection
            await asyncio.sleep(0.005)


async def test_without_dependencies_all_serves_at_once(interceptors):
    async with serving(HealthServicer(services=["a.A"]), interceptors) as stub:
        assert await status(stub) == SERVING
        assert await status(stub, "a.A") == SERVING
        assert await listed(stub) == {"": SERVING, "a.A": SERVING}


async def test_check_of_an_unknown_service_is_not_found(interceptors):
    async with serving(HealthServicer(), interceptors) as stub:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await status(stub, "no.Such")
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_watch_of_an_unknown_service_stays_open_until_it_is_known(interceptors):
    health = HealthServicer()
    async with serving(health, interceptors) as stub:
        watch = stub.Watch(HealthCheckRequest(service="late.S"))
        assert await read(watch) == SERVICE_UNKNOWN
        health.add("late.S")
        assert await read(watch) == SERVING
        health.remove("late.S")
        assert await read(watch) == SERVICE_UNKNOWN


async def test_a_critical_dependency_takes_every_service_down_and_up(interceptors):
    database = Switch(works=False)
    health = HealthServicer([database.check()], services=["a.A"])
    async with serving(health, interceptors) as stub:
        watch = stub.Watch(HealthCheckRequest(service="a.A"))
        assert await read(watch) == NOT_SERVING
        assert await listed(stub) == {"": NOT_SERVING, "a.A": NOT_SERVING}
        for works, expected in ((True, SERVING), (False, NOT_SERVING), (True, SERVING)):
            database.works = works
            assert await read(watch) == expected
            assert await status(stub) == expected


async def test_another_dependency_takes_nothing_down():
    cache = Switch(works=False)
    health = HealthServicer([cache.check("cache", critical=False)])
    async with serving(health) as stub:
        await until(lambda: health.report().health == "degraded")
        assert await status(stub) == SERVING


async def test_a_service_without_need_of_dependencies_stays_up_until_shutdown():
    health = HealthServicer([Switch(works=False).check()])
    health.add("liveness", needs_dependencies=False)
    async with serving(health) as stub:
        await health.set("liveness", SERVING)
        assert await listed(stub) == {"": NOT_SERVING, "liveness": SERVING}
        await health.enter_graceful_shutdown()
        assert await status(stub, "liveness") == NOT_SERVING


async def test_what_a_dependency_said_is_not_told_to_callers():
    async def probe() -> bool:
        raise ConnectionError("postgresql://items:hunter2@db.internal/items")

    health = HealthServicer({"secret-db": probe}, services=["a.A"])
    async with serving(health) as stub:
        await until(lambda: health.report().dependencies[0].state == "down")
        call = stub.Check(HealthCheckRequest(), timeout=10)
        answer = str(await call) + str(await call.trailing_metadata()) + str(await call.initial_metadata())
        assert "secret-db" not in answer
        assert "internal" not in answer


async def test_a_check_does_not_wait_for_a_probe_that_hangs():
    async def hang() -> bool:
        await asyncio.Event().wait()
        return True

    async with serving(HealthServicer({"db": hang})) as stub:
        async with asyncio.timeout(20):
            for _ in range(50):
                assert await status(stub) == NOT_SERVING


async def test_many_checks_are_no_more_probes():
    probes = 0

    async def count() -> bool:
        nonlocal probes
        probes += 1
        return True

    async with serving(HealthServicer({"db": count})) as stub:
        for _ in range(20):
            await asyncio.gather(*(status(stub) for _ in range(20)))
    assert probes == 1


async def test_shutdown_is_told_at_once_and_is_for_ever(interceptors):
    health = HealthServicer([Switch().check()], services=["a.A"])
    async with serving(health, interceptors) as stub:
        watches = [stub.Watch(HealthCheckRequest(service=service)) for service in ("", "a.A")]
        for watch in watches:
            while await read(watch) != SERVING:
                pass
        await health.enter_graceful_shutdown()
        assert [await read(watch) for watch in watches] == [NOT_SERVING, NOT_SERVING]
        await health.set("a.A", SERVING)
        await health.set("b.B", SERVING)
        health.remove("a.A")
        await health.enter_graceful_shutdown()
        assert await listed(stub) == {"": NOT_SERVING, "a.A": NOT_SERVING}
        late = stub.Watch(HealthCheckRequest(service="a.A"))
        assert await read(late) == NOT_SERVING
        await health.stop()
        assert [await rest(watch) for watch in (*watches, late)] == [[], [], []]


async def test_watches_do_not_hold_up_a_draining_server():
    health = HealthServicer()
    server = grpc.aio.server()
    add_HealthServicer_to_server(health, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    await health.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        watches = [HealthStub(channel).Watch(HealthCheckRequest(service=service)) for service in ("", "no.Such")]
        assert [await read(watch) for watch in watches] == [SERVING, SERVICE_UNKNOWN]
        began = asyncio.get_running_loop().time()
        await health.stop()
        await server.stop(30)
        assert asyncio.get_running_loop().time() - began < 15
        assert [await rest(watch) for watch in watches] == [[NOT_SERVING], []]


@pytest.mark.parametrize("bad", [SERVICE_UNKNOWN, 17])
async def test_what_no_service_can_be_set_to(bad):
    with pytest.raises(ValueError, match="remove it"):
        await HealthServicer().set("a.A", bad)


async def test_a_list_too_long_is_refused(interceptors):
    health = HealthServicer(services=[f"s.S{number}" for number in range(99)])
    async with serving(health, interceptors) as stub:
        assert len(await listed(stub)) == 100
        health.add("one.TooMany")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await listed(stub)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_watchers_above_the_bound_are_refused_and_their_places_come_free(interceptors):
    health = HealthServicer(max_watchers=3)
    async with serving(health, interceptors) as stub:
        watches = [stub.Watch(HealthCheckRequest(service=service)) for service in ("", "", "no.Such")]
        for watch in watches:
            await read(watch)
        refused = stub.Watch(HealthCheckRequest())
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await read(refused)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        watches[0].cancel()
        await until(lambda: health._statuses.watching == 2)
        assert await read(stub.Watch(HealthCheckRequest())) == SERVING


async def test_a_slow_watcher_gets_the_latest():
    statuses = Statuses(max_watchers=1)
    watcher = statuses.watch("a.A")
    assert await watcher.next() == SERVICE_UNKNOWN
    for _ in range(10_000):
        statuses.set("a.A", SERVING)
        await asyncio.sleep(0)
        statuses.set("a.A", NOT_SERVING)
    assert await watcher.next() == NOT_SERVING
    again = asyncio.create_task(watcher.next())
    for _ in range(3):
        await asyncio.sleep(0)
    assert not again.done()
    again.cancel()


async def test_a_client_that_does_not_read_gets_the_latest_in_the_end():
    health = HealthServicer(services=["a.A"])
    async with serving(health) as stub:
        watch = stub.Watch(HealthCheckRequest(service="a.A"))
        assert await read(watch) == SERVING
        for _ in range(3000):
            await health.set("a.A", NOT_SERVING)
            await asyncio.sleep(0)
            await health.set("a.A", SERVING)
            await asyncio.sleep(0)
        await health.set("a.A", STATUS_UNKNOWN)
        seen = [SERVING]
        while seen[-1] != STATUS_UNKNOWN:
            seen.append(await read(watch))
        await health.stop()
        seen += await rest(watch)
        assert seen[-2:] == [STATUS_UNKNOWN, NOT_SERVING]
        assert all(one != other for one, other in pairwise(seen))


async def test_a_watcher_may_be_closed_twice():
    statuses = Statuses(max_watchers=1)
    watcher = statuses.watch("a.A")
    with pytest.raises(TooManyWatchersError):
        statuses.watch("a.A")
    watcher.close()
    watcher.close()
    assert statuses.watching == 0
    assert not statuses._watchers


async def leave_by_cancel(stub: HealthStub, service: str) -> None:
    watch = stub.Watch(HealthCheckRequest(service=service))
    await read(watch)
    watch.cancel()


async def leave_before_the_first_answer(stub: HealthStub, service: str) -> None:
    watch = stub.Watch(HealthCheckRequest(service=service))
    await asyncio.sleep(0)
    watch.cancel()


async def leave_by_deadline(stub: HealthStub, service: str) -> None:
    watch = stub.Watch(HealthCheckRequest(service=service), timeout=0.05)
    await rest(watch, grpc.StatusCode.DEADLINE_EXCEEDED)


async def leave_while_reading(stub: HealthStub, service: str) -> None:
    watch = stub.Watch(HealthCheckRequest(service=service))
    await read(watch)
    reading = asyncio.create_task(watch.read())
    await asyncio.sleep(0)
    reading.cancel()
    await asyncio.wait([reading])


# A client that merely breaks out of its loop has not left: gRPC keeps its call open.
LEAVINGS = [leave_by_cancel, leave_before_the_first_answer, leave_by_deadline, leave_while_reading]


async def test_a_thousand_watchers_come_and_go(interceptors):
    health = HealthServicer(services=["a.A"])
    async with serving(health, interceptors) as stub:
        await status(stub)
        before = len(asyncio.all_tasks())
        flapping = asyncio.create_task(flap(health))
        for _ in range(10):
            await asyncio.gather(
                *(LEAVINGS[number % 4](stub, ("a.A", "no.Such")[number // 4 % 2]) for number in range(100))
            )
        flapping.cancel()
        await until(lambda: health._statuses.watching == 0)
        await until(lambda: len(asyncio.all_tasks()) <= before)
        assert not health._statuses._watchers


async def flap(health: HealthServicer) -> None:
    while True:
        await health.set("a.A", NOT_SERVING)
        await asyncio.sleep(0.001)
        await health.set("a.A", SERVING)
        await asyncio.sleep(0.001)


async def test_a_watcher_whose_connection_breaks_is_let_go(interceptors):
    health = HealthServicer()
    server = grpc.aio.server(interceptors=interceptors)
    add_HealthServicer_to_server(health, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}")
    watch = HealthStub(channel).Watch(HealthCheckRequest())
    await read(watch)
    await channel.close()
    await until(lambda: health._statuses.watching == 0)
    await server.stop(None)


NAMES = ["", "a.A", "b.B", "c.C"]
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("set"), st.sampled_from(NAMES), st.sampled_from([SERVING, NOT_SERVING, STATUS_UNKNOWN])),
        st.tuples(st.just("remove"), st.sampled_from(NAMES[1:])),
        st.tuples(st.just("dependency"), st.booleans()),
        st.tuples(st.just("watch"), st.sampled_from([*NAMES, "d.D"])),
        st.tuples(st.just("pause")),
        st.tuples(st.just("look"), st.sampled_from([*NAMES, "d.D"])),
        st.tuples(st.just("shutdown")),
    ),
    max_size=25,
)


class ByTheBook:
    """What the protocol says of a server, a dependency and a sequence of steps."""

    def __init__(self) -> None:
        self.set: dict[str, int] = {"": SERVING, "a.A": SERVING}
        self.up = True
        self.over = False
        self.history: list[dict[str, int]] = []

    def statuses(self) -> dict[str, int]:
        return {name: each if self.up and not self.over else NOT_SERVING for name, each in self.set.items()}

    def apply(self, step) -> None:
        match step:
            case ("set", name, value) if not self.over:
                self.set[name] = value
            case ("remove", name) if not self.over:
                self.set.pop(name, None)
            case ("dependency", up):
                self.up = up
            case ("shutdown",):
                self.over = True
        self.history.append(self.statuses())


@settings(max_examples=120, deadline=None)
@given(steps=STEPS)
async def test_health_protocol_compliance(steps):
    """**Feature: grpc-code-review, Property 4: Health Check Protocol Compliance**"""
    database = Switch()
    health = HealthServicer([database.check()], services=["a.A"])
    book = ByTheBook()
    watches = []
    async with serving(health) as stub:
        await until(lambda: health.report().health == "serving")
        for step in steps:
            book.apply(step)
            match step:
                case ("set", name, value):
                    await health.set(name, value)
                case ("remove", name):
                    health.remove(name)
                case ("dependency", up):
                    database.works = up
                    await until(lambda up=up: (health.report().health == "serving") == up)
                case ("watch", name):
                    watch = stub.Watch(HealthCheckRequest(service=name))
                    first = await read(watch)
                    assert first == book.statuses().get(name, SERVICE_UNKNOWN)
                    watches.append((name, len(book.history) - 1, watch, first))
                case ("pause",):
                    await asyncio.sleep(0)
                case ("look", name):
                    assert await listed(stub) == book.statuses()
                    if name in book.statuses():
                        assert await status(stub, name) == book.statuses()[name]
                    else:
                        with pytest.raises(grpc.aio.AioRpcError) as caught:
                            await status(stub, name)
                        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
                case ("shutdown",):
                    await health.enter_graceful_shutdown()
        book.apply(("shutdown",))
        await health.stop()
        for name, since, watch, first in watches:
            seen = [first, *await rest(watch)]
            might = [statuses.get(name, SERVICE_UNKNOWN) for statuses in book.history[since:]]
            assert all(one != other for one, other in pairwise(seen))
            assert seen[-1] == might[-1]
            assert is_subsequence(seen, might)
        assert await listed(stub) == book.statuses()
    await until(lambda: health._statuses.watching == 0)


def is_subsequence(few, many) -> bool:
    left = iter(many)
    return all(any(each == other for other in left) for each in few)
