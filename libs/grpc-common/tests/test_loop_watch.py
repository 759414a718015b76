"""Whoever holds the event loop is named: one line with the seconds and the method, and a metric."""

import asyncio
import re
import time

import grpc
import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from grpc_common import loop_watch
from grpc_common.loop_watch import LoopWatch
from grpc_common.server import GRPCServer

SERVICE = "meshwork.test.Held"
PATTERN = re.compile("(a|a)*b")


async def sleeping(request, context):
    time.sleep(1.2)  # noqa: ASYNC251
    return b""


async def computing(request, context):
    end = time.monotonic() + 1.2
    while time.monotonic() < end:
        sum(range(1000))
    return b""


async def holding_all_threads(request, context):
    """A regular expression lets no other thread run."""
    began, letters = time.monotonic(), 20
    while time.monotonic() - began < 1:
        began = time.monotonic()
        PATTERN.match("a" * letters)
        letters += 1
    return b""


async def a_task_of_its_own(request, context):
    async def hold():
        time.sleep(1.2)  # noqa: ASYNC251

    await asyncio.create_task(hold())
    return b""


async def waiting(request, context):
    await asyncio.sleep(1.2)
    return b""


HANDLERS = {each.__name__: each for each in (sleeping, computing, holding_all_threads, a_task_of_its_own, waiting)}


@pytest.fixture
async def call():
    server = GRPCServer("127.0.0.1", 0)
    handlers = {name: grpc.unary_unary_rpc_method_handler(each) for name, each in HANDLERS.items()}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    await server.start()
    async with grpc.aio.insecure_channel(server.target) as channel:

        async def call(name):
            await channel.unary_unary(f"/{SERVICE}/{name}")(b"", timeout=60)
            await asyncio.sleep(4 * loop_watch.PERIOD)

        yield call
    await server.stop(0)


def held(registry=loop_watch.REGISTRY, **labels):
    return {
        part: registry.get_sample_value(f"event_loop_held_seconds_{part}", labels) or 0 for part in ("count", "sum")
    }


@pytest.mark.parametrize("name", ["sleeping", "computing", "a_task_of_its_own"])
async def test_the_call_that_holds_the_loop_is_named(call, name):
    labels = {"grpc_service": SERVICE, "grpc_method": name}
    before = held(**labels)
    with capture_logs() as lines:
        await call(name)
    (line,) = (line for line in lines if line.get("component") == "loop" or "event loop" in line["event"])
    assert line["method"] == f"/{SERVICE}/{name}"
    assert 1 <= line["seconds"] < 60
    assert any("test_loop_watch.py" in frame for frame in line["at"])
    assert line["correlation_id"]
    after = held(**labels)
    assert after["count"] - before["count"] == 1
    assert after["sum"] - before["sum"] == pytest.approx(line["seconds"], abs=0.01)


async def test_code_that_lets_no_thread_run_is_told_of_as_well(call):
    with capture_logs() as lines:
        await call("holding_all_threads")
    told = [line for line in lines if line["event"] == "the event loop was held"]
    assert told
    assert max(line["seconds"] for line in told) >= 0.9


async def test_who_awaits_holds_nobody(call):
    with capture_logs() as lines:
        await call("waiting")
    assert not [line for line in lines if line.get("method") == f"/{SERVICE}/waiting" and line["event"] != "call"]


async def test_two_servers_of_a_loop_share_one(call):
    shared = LoopWatch.of_running_loop()
    assert LoopWatch.of_running_loop() is shared
    shared.start()
    shared.stop()
    labels = {"grpc_service": SERVICE, "grpc_method": "sleeping"}
    before = held(**labels)["count"]
    await call("sleeping")
    assert held(**labels)["count"] == before + 1


async def test_what_is_no_call_is_named_by_its_task():
    registry = CollectorRegistry()
    watch = LoopWatch(registry)
    watch.start()

    async def hold():
        time.sleep(1)  # noqa: ASYNC251

    with capture_logs() as lines:
        await asyncio.sleep(0.2)
        await asyncio.create_task(hold(), name="the holder")
        await asyncio.sleep(0.2)
    watch.stop()
    assert [line["task"] for line in lines if "task" in line] == ["the holder"]
    assert held(registry, grpc_service="", grpc_method="")["count"] >= 1


async def test_what_does_not_end_is_told_before_its_end():
    watch = LoopWatch(CollectorRegistry(), still=0.6)
    watch.start()
    with capture_logs() as lines:
        await asyncio.sleep(0.2)
        time.sleep(2)  # noqa: ASYNC251
        told = [line["event"] for line in lines]
        await asyncio.sleep(0.2)
    watch.stop()
    assert told == ["the event loop is still held"]
    assert [line["event"] for line in lines] == told  # and once is enough


async def test_a_process_that_is_held_up_as_a_whole_blames_nobody(monkeypatch):
    """As after SIGSTOP, or where the machine gives it no time: the watching thread has slept longer, too."""
    watch = LoopWatch(CollectorRegistry())
    watch.start()
    with capture_logs() as lines:
        await asyncio.sleep(0.2)
        watch._beat -= 5  # the turn is five seconds late, of which nobody saw anything
        await asyncio.sleep(0.2)
    watch.stop()
    assert lines == []
