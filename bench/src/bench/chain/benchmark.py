"""What the interceptor chain costs a unary call, and a message of a stream."""

import os
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from bench.chain.tokens import write_keys
from bench.contestant import LOAD_CORE, Running, pin, running
from bench.load import Load
from bench.report import Ratio, Report
from bench.rounds import Effort, Turn, play

CONTESTANTS: Final = ("bare", "chain", "stock", "kit", "bare+uvloop", "chain+uvloop")
STREAMS: Final = ("bare", "chain")
STREAM: Final = " stream"
BEFORE: Final = "chain, before"
COMPARED: Final = ("bare", "chain", BEFORE)
"""Who competes where the library of an earlier commit does."""
CONCURRENCY: Final = 32
MESSAGES: Final = 500
"""Messages of one streaming call."""


async def measure(effort: Effort) -> Report:
    """Run the benchmark: unary calls of all contestants, streams of bare and chain, in the same rounds."""
    pin(LOAD_CORE)
    import grpc.aio  # its threads must begin on their core

    from meshwork.items.v1 import items_service_pb2 as pb
    from meshwork.items.v1 import items_service_pb2_grpc as rpc

    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        tokens = write_keys(folder)
        os.environ["BENCH_KEYS"] = str(folder)
        servers: dict[str, Running] = {}
        stubs = {}
        contestants = CONTESTANTS if effort.before is None else COMPARED
        for name in contestants:
            log = str(folder / f"{name}.log")
            tree = effort.before if name == BEFORE else None
            server = running("bench.chain.server", name.partition(",")[0], log, tree)
            servers[name] = await stack.enter_async_context(server)
            channel = await stack.enter_async_context(grpc.aio.insecure_channel(servers[name].target))
            stubs[name] = rpc.ItemServiceStub(channel)
        metadata = [(("authorization", f"Bearer {token}"),) for token in tokens]
        request = pb.GetItemRequest(id="018f3f6e-7b1a-7cc0-9a43-2f2f6c1d2e3f")

        async def turn(contestant: str) -> Turn:
            name = contestant.removesuffix(STREAM)
            stub, server = stubs[name], servers[name].process
            if contestant.endswith(STREAM):
                many = pb.ListItemsRequest(page_size=MESSAGES)

                async def stream(sent: Sequence[tuple[str, str]]) -> int:
                    return len([item async for item in stub.ListItems(many, metadata=sent)])

                return await Load(4, metadata).run(stream, server, effort.seconds, per_call=MESSAGES)

            async def get(sent: Sequence[tuple[str, str]]) -> int:
                await stub.GetItem(request, metadata=sent)
                return 1

            return await Load(CONCURRENCY, metadata).run(get, server, effort.seconds)

        streams = STREAMS if effort.before is None else (*STREAMS, BEFORE)
        results = await play([*contestants, *(f"{name}{STREAM}" for name in streams)], turn, effort)

    def faster(one: str, other: str) -> Sequence[float]:
        def ratio(turns: Mapping[str, Turn]) -> float:
            return turns[other].cpu_s / turns[one].cpu_s

        return results.ratios(ratio)

    if effort.before is not None:
        compared = [
            Ratio("chain_vs_bare", faster("chain", "bare"), 0.85),
            Ratio("chain_vs_before", faster("chain", BEFORE)),
            Ratio("stream_vs_before", faster(f"chain{STREAM}", f"{BEFORE}{STREAM}")),
        ]
        return Report("chain", effort, results, compared)
    ratios = [
        Ratio("chain_vs_bare", faster("chain", "bare"), 0.85),
        Ratio("chain_vs_stock", faster("chain", "stock"), 2.5),
        Ratio("chain_vs_kit", faster("chain", "kit"), 1.4),
        Ratio("chain_vs_bare_uvloop", faster("chain+uvloop", "bare+uvloop")),
        Ratio("stream_overhead", [1 / value for value in faster("chain stream", "bare stream")], 1.1, at_most=True),
    ]
    return Report("chain", effort, results, ratios)
