"""Nothing grows with the calls and channels there have been; `SOAK_SECONDS=600` for longer than the suite has."""

import asyncio
import gc
import os
from collections import Counter
from contextlib import suppress
from random import Random
from statistics import median
from time import monotonic

import pytest

from client_kit import Server, Stub, echo, make_factory, serving, text
from grpc_common.client.breaker import CircuitBreakerConfig
from grpc_common.client.call import ClientCall
from grpc_common.client.connection import Connection
from grpc_common.client.remote_error import RemoteError
from grpc_common.client.retry_config import RetryConfig
from soak import Window, grows, rss

CYCLES = 1000
SECONDS = float(os.environ.get("SOAK_SECONDS", "8"))
WINDOWS = 8
AT_ONCE = 8


def alive(kind):
    gc.collect()
    return sum(isinstance(each, kind) for each in gc.get_objects())


def tasks():
    return Counter(str(getattr(task.get_coro(), "__qualname__", task)) for task in asyncio.all_tasks())


async def test_a_thousand_channels_leave_nothing_behind():
    async with serving(Server(Read=echo)) as target, make_factory() as factory:
        measured = []
        before = tasks()
        for cycle in range(CYCLES):
            async with await factory.create_channel(target, secure=False) as channel:
                await Stub(channel).Read(text())
            assert factory.open_channels == 0
            if cycle % 100 == 99:
                await asyncio.sleep(0)
                measured.append(rss())
    assert not [name for name in tasks() - before if "grpc_common.client" in name]
    del channel
    assert alive(Connection) <= 1  # the last, of which this frame knows
    print("RSS in MiB, each 100 cycles:", measured)
    assert median(measured[-3:]) - median(measured[2:5]) < 8  # 10 KB a cycle is less than a channel holds


async def fickle(request, context):
    if request.value == "fail":
        await context.abort(14, "no")
    if request.value == "wait":
        await asyncio.Event().wait()
    return request


async def fickle_stream(request, context):
    for _ in range(5):
        yield await fickle(request, context)


async def fickle_requests(requests, context):
    async for request in requests:
        await fickle(request, context)
    return text()


async def fickle_talk(requests, context):
    async for request in requests:
        yield await fickle(request, context)


async def one_call(stub, chance):
    name = chance.choice(["Read", "Put", "Write", "Watch", "List", "Gather", "Pour", "Talk", "Chat"])
    value = text(chance.choice(["", "", "", "fail", "wait"]))
    seconds = chance.choice([0.05, 1]) if value.value != "wait" else 0.05
    streamed = name in ("Gather", "Pour", "Talk", "Chat")
    call = getattr(stub, name)([value] * 3 if streamed else value, timeout=seconds)
    end = chance.random()
    with suppress(RemoteError, asyncio.CancelledError):
        if end < 0.1:
            call.cancel()
        if name in ("Watch", "List", "Talk", "Chat"):
            async for _ in call:
                if end > 0.9:
                    break
        else:
            await call


@pytest.mark.timeout(300 + 2 * SECONDS)
async def test_calls_leave_nothing_behind_however_they_end():
    behaviors = {
        **dict.fromkeys(("Read", "Put", "Write"), fickle),
        **dict.fromkeys(("Watch", "List"), fickle_stream),
        **dict.fromkeys(("Gather", "Pour"), fickle_requests),
        **dict.fromkeys(("Talk", "Chat"), fickle_talk),
    }
    chance = Random(1)  # noqa: S311  # to be repeated
    retry = RetryConfig(hedge_delay=0.02)
    breaker = CircuitBreakerConfig(failure_threshold=10**9, minimum_calls=10**9)  # or most calls would not be made
    windows, made = [], 0
    async with (
        serving(Server(**behaviors)) as target,
        make_factory(retry_config=retry, circuit_breaker_config=breaker) as factory,
    ):
        stub = Stub(await factory.create_channel(target, secure=False))

        async def caller(end):
            nonlocal made
            while monotonic() < end:
                await one_call(stub, chance)
                made += 1

        for _ in range(WINDOWS):
            end = monotonic() + SECONDS / WINDOWS
            await asyncio.gather(*(caller(end) for _ in range(AT_ONCE)))
            await asyncio.sleep(0.1)
            windows.append(Window(made, sum(tasks().values()), alive(ClientCall), rss()))
    print(*windows, sep="\n")
    first, last = windows[1], windows[-1]
    assert last.tasks <= first.tasks + 2  # a server's own tasks come and go
    assert last.contexts <= 300  # cancelled timers keep theirs for a while
    assert not grows(windows)
