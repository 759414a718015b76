"""A service that is asked to stop in the midst of work: what was begun is finished, what is refused was not begun."""

import asyncio
import itertools
import json
import os
import signal
import sys
import time
from collections import Counter
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import pytest
from grpc import StatusCode, aio

import grpc_common.application  # the child imports it
import grpc_common.run  # noqa: F401  # the child imports it
from meshwork.items.v1 import items_service_pb2 as pb
from meshwork.items.v1 import items_service_pb2_grpc as rpc

PATIENCE = 20
CHANNELS = 5
CALLERS = 200
CALLS = 200
LONGEST_CALL = 0.25
REFUSED = {StatusCode.UNAVAILABLE, StatusCode.CANCELLED}

# An id is a number, and the seconds its call takes. Entered and finished calls are told on standard output.
PROGRAM = """
import asyncio
import os
from contextlib import asynccontextmanager
from functools import partial
from pydantic_settings import SettingsConfigDict
from grpc_common.run import run
from grpc_common.application import Application
from grpc_common.settings import GRPCServerSettings, ServiceSettings
from meshwork.items.v1 import items_service_pb2 as pb
from meshwork.items.v1 import items_service_pb2_grpc as rpc


class ShopSettings(ServiceSettings):
    model_config = SettingsConfigDict(env_prefix="SHOP_")
    grpc: GRPCServerSettings = GRPCServerSettings(enabled=True, host="127.0.0.1", port=0, max_concurrent_rpcs=1000)


def tell(event, id):
    os.write(told, f"{event} {id}\\n".encode())


class Items(rpc.ItemServiceServicer):
    async def GetItem(self, request, context):
        tell("entered", request.id)
        await asyncio.sleep(float(request.id.split("_")[1]))
        tell("finished", request.id)
        return pb.Item(id=request.id)

    async def ListItems(self, request, context):
        tell("entered", request.page_token)
        try:
            for number in range(request.page_size):
                yield pb.Item(id=str(number))
                await asyncio.sleep(0.02)
            tell("finished", request.page_token)
        except (asyncio.CancelledError, GeneratorExit):  # while it waits, or while its reply is sent
            tell("cut", request.page_token)
            raise


@asynccontextmanager
async def build(settings):
    yield Application(partial(rpc.add_ItemServiceServicer_to_server, Items()))


told = os.open(os.environ["TOLD"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
run(build, ShopSettings)
"""


class Shop:
    def __init__(self, folder):
        self.told = folder / "told"
        self.log = folder / "log"
        self.process = None
        self.target = ""

    @asynccontextmanager
    async def running(self, **variables):
        """Serve from here to the end of the block."""
        paths = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "TOLD": str(self.told)}
        with self.log.open("wb") as log:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", PROGRAM, stderr=log, env={**os.environ, **paths, **variables}
            )
        try:
            self.target = (await self.line("serving"))["target"]
            yield self
        finally:
            if self.process.returncode is None:
                self.process.kill()
            await self.process.wait()

    async def line(self, event):
        """Wait for a line of the log."""
        async with asyncio.timeout(PATIENCE):
            while True:
                for line in map(json.loads, self.log.read_text().splitlines()):
                    if line["event"] == event:
                        return line
                await asyncio.sleep(0.05)

    def which(self, event):
        """The ids the server has told `event` of, in order."""
        pairs = (line.split() for line in self.told.read_text().splitlines())
        return [id_ for what, id_ in pairs if what == event]

    async def has_entered(self, count):
        """Wait until that many calls have been entered."""
        async with asyncio.timeout(PATIENCE):
            while True:
                if self.told.exists() and len(self.which("entered")) >= count:
                    return
                await asyncio.sleep(0.02)

    async def ends(self, within=PATIENCE):
        """Ask it to stop and wait for the end; return the exit status and how many seconds it took."""
        started = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(within):
            return await self.process.wait(), time.monotonic() - started


@pytest.fixture
def shop(tmp_path):
    return Shop(tmp_path)


@asynccontextmanager
async def connections(target, count):
    # Without the first, all channels of a process share one connection; with retries a refusal might not be seen.
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(aio.insecure_channel(target, options)) for _ in range(count)]


@pytest.mark.parametrize("lame_duck", [0, 0.3])
async def test_what_was_begun_is_finished_and_what_is_refused_was_not_begun(shop, lame_duck):
    numbers, ends = itertools.count(), {}

    async def caller(stub):
        while True:
            number = next(numbers)
            id_ = f"{number}_{(number % 10) * LONGEST_CALL / 9:.3f}"
            call = stub.GetItem(pb.GetItemRequest(id=id_), timeout=PATIENCE)
            ends[id_] = await call.code()
            if ends[id_] is not StatusCode.OK:
                return

    async with shop.running(SHOP_GRPC__LAME_DUCK_SECONDS=str(lame_duck)), connections(shop.target, CHANNELS) as made:
        callers = [asyncio.create_task(caller(rpc.ItemServiceStub(made[n % CHANNELS]))) for n in range(CALLERS)]
        await shop.has_entered(2 * CALLERS)  # each has had an answer, on average
        status, _ = await shop.ends()
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*callers)

    entered, finished = shop.which("entered"), shop.which("finished")
    well = {id_ for id_, code in ends.items() if code is StatusCode.OK}
    assert status == 0
    assert len(entered) == len(set(entered)) > CALLERS
    assert set(entered) == set(finished) == well
    assert {ends[id_] for id_ in ends.keys() - well} <= REFUSED
    assert len(ends.keys() - well) == CALLERS


async def test_hundreds_of_calls_that_end_together_all_get_their_answers(shop):
    async with shop.running(), connections(shop.target, CHANNELS) as made:
        stubs = [rpc.ItemServiceStub(channel) for channel in made]
        calls = [stubs[n % CHANNELS].GetItem(pb.GetItemRequest(id=f"{n}_1.2")) for n in range(CALLS)]
        codes = asyncio.gather(*(call.code() for call in calls))
        await shop.has_entered(CALLS)
        assert (await shop.ends())[0] == 0
        assert Counter(await codes) == {StatusCode.OK: CALLS}
    assert len(shop.which("finished")) == CALLS


async def test_streams_are_finished_or_cut_and_the_end_is_in_time(shop):
    drain, short, endless = 4.0, 30, 100_000

    async def read(stub, size, name):
        call = stub.ListItems(pb.ListItemsRequest(page_size=size, page_token=name))
        count = 0
        with suppress(aio.AioRpcError):
            async for _ in call:
                count += 1
        return count, await call.code()

    async with shop.running(SHOP_GRPC__DRAIN_SECONDS=str(drain)), connections(shop.target, CHANNELS) as made:
        stubs = [rpc.ItemServiceStub(channel) for channel in made]
        finite = asyncio.gather(*(read(stubs[n % CHANNELS], short, f"short-{n}") for n in range(20)))
        infinite = asyncio.gather(*(read(stubs[n % CHANNELS], endless, f"endless-{n}") for n in range(20)))
        await shop.has_entered(40)
        status, took = await shop.ends()
        assert set(await finite) == {(short, StatusCode.OK)}
        assert {code for _, code in await infinite} <= REFUSED
    assert status == 0
    assert drain <= took < drain + 6
    assert sorted(shop.which("finished")) == sorted(f"short-{n}" for n in range(20))
    assert sorted(shop.which("cut")) == sorted(f"endless-{n}" for n in range(20))
