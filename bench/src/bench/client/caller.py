"""A client in a process of its own: `python -m bench.client.caller KIND`, KIND being bare or whole.

It reads a line with the target, then one with seconds for each turn, and answers with the turn as JSON.
"""

import asyncio
import json
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict
from typing import Any, Final

from bench.contestant import LOAD_CORE, pin

pin(LOAD_CORE)

import grpc.aio  # noqa: E402  # its threads must begin on their core
import psutil  # noqa: E402
from prometheus_client import CollectorRegistry  # noqa: E402

from bench.load import Load  # noqa: E402
from bench.nowhere import Nowhere  # noqa: E402
from grpc_common.client.factory import GRPCClientFactory  # noqa: E402
from grpc_common.traces import Tracing  # noqa: E402
from meshwork.items.v1 import items_service_pb2 as pb  # noqa: E402
from meshwork.items.v1 import items_service_pb2_grpc as rpc  # noqa: E402

SAMPLED: Final = 0.01
AT_ONCE: Final = 32


async def _stub(kind: str, target: str, stack: AsyncExitStack) -> Any:
    if kind == "bare":
        return rpc.ItemServiceStub(await stack.enter_async_context(grpc.aio.insecure_channel(target)))
    tracer = Tracing("bench", ratio=SAMPLED, exporter=Nowhere()).tracer
    factory = await stack.enter_async_context(GRPCClientFactory(tracer=tracer, registry=CollectorRegistry()))
    return rpc.ItemServiceStub(await factory.create_channel(target, secure=False))


async def main(kind: str) -> None:
    """Take turns as long as there are any."""
    loop, itself = asyncio.get_running_loop(), psutil.Process()
    request = pb.GetItemRequest(id="018f3f6e-7b1a-7cc0-9a43-2f2f6c1d2e3f")
    async with AsyncExitStack() as stack:
        print("ready", flush=True)
        stub = await _stub(kind, (await loop.run_in_executor(None, sys.stdin.readline)).strip(), stack)
        print("connected", flush=True)

        async def get(_: Sequence[tuple[str, str]]) -> int:
            await stub.GetItem(request, timeout=5)
            return 1

        while line := await loop.run_in_executor(None, sys.stdin.readline):
            turn = await Load(AT_ONCE, ((),)).run(get, itself, float(line))
            print(json.dumps(asdict(turn)), flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
