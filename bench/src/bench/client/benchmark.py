"""What the client side costs a unary call, and what hedging gains where some replies are slow."""

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import psutil

from bench.client.callers import ask, turn_of
from bench.contestant import LOAD_CORE, pin, running
from bench.load import Load
from bench.report import Ratio, Report
from bench.rounds import Effort, Turn, play

COSTS: Final = ("bare client", "whole client")
GAINS: Final = ("unhedged", "hedged")
SAMPLED: Final = 0.01
NO_METADATA: Final = ((),)
BEFORE: Final = "whole client, before"


async def measure(effort: Effort) -> Report:
    """Run the benchmark; CPU is that of this process, in which all clients run, per OK call."""
    if effort.before is not None:
        return await compare(effort, effort.before)
    pin(LOAD_CORE)
    import grpc.aio  # its threads must begin on their core
    from prometheus_client import CollectorRegistry

    from bench.nowhere import Nowhere
    from grpc_common.client.factory import GRPCClientFactory
    from grpc_common.client.retry_config import RetryConfig
    from grpc_common.traces import Tracing
    from meshwork.items.v1 import items_service_pb2 as pb
    from meshwork.items.v1 import items_service_pb2_grpc as rpc

    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        prompt = await stack.enter_async_context(running("bench.client.server", "prompt", str(folder / "prompt.log")))
        uneven = await stack.enter_async_context(running("bench.client.server", "uneven", str(folder / "uneven.log")))
        registry = CollectorRegistry()
        tracer = Tracing("bench", ratio=SAMPLED, exporter=Nowhere()).tracer

        async def stub_of(target: str, **retry: Any) -> Any:
            factory = await stack.enter_async_context(
                GRPCClientFactory(retry_config=RetryConfig(**retry), tracer=tracer, registry=registry)
            )
            return rpc.ItemServiceStub(await factory.create_channel(target, secure=False))

        bare = await stack.enter_async_context(grpc.aio.insecure_channel(prompt.target))
        stubs = {
            "bare client": rpc.ItemServiceStub(bare),
            "whole client": await stub_of(prompt.target),
            "unhedged": await stub_of(uneven.target, hedge_ratio=0.0),
            "hedged": await stub_of(uneven.target),
        }
        request = pb.GetItemRequest(id="018f3f6e-7b1a-7cc0-9a43-2f2f6c1d2e3f")
        itself = psutil.Process()
        hedged: list[float] = []

        def hedges() -> float:
            labels = {"grpc_type": "unary", "grpc_service": "meshwork.items.v1.ItemService", "grpc_method": "GetItem"}
            return registry.get_sample_value("grpc_client_hedges_total", labels) or 0.0

        async def turn(contestant: str) -> Turn:
            stub = stubs[contestant]
            calls, before = 0, hedges()

            async def get(_: Sequence[tuple[str, str]]) -> int:
                nonlocal calls
                calls += 1
                await stub.GetItem(request, timeout=5)
                return 1

            at_once = 32 if contestant in COSTS else 4
            measured = await Load(at_once, NO_METADATA).run(get, itself, effort.seconds)
            if contestant == "hedged":
                hedged.append((hedges() - before) / calls)
            return measured

        results = await play([*COSTS, *GAINS], turn, effort)

    def cheaper(turns: Mapping[str, Turn]) -> float:
        return turns["bare client"].cpu_s / turns["whole client"].cpu_s

    def gain(turns: Mapping[str, Turn]) -> float:
        return turns["unhedged"].p99_ms / turns["hedged"].p99_ms

    ratios = [
        Ratio("client_vs_bare", results.ratios(cheaper), 0.85),
        Ratio("hedge_p99_gain", results.ratios(gain), 3.0),
        Ratio("hedge_extra_calls", hedged[1:], 0.05, at_most=True),  # the first warmed up
    ]
    return Report("client", effort, results, ratios, cpu_of="client")


async def compare(effort: Effort, before: Path) -> Report:
    """Run the clients as processes of their own, one of them with the library of `before`."""
    clients = {"bare client": ("bare", None), "whole client": ("whole", None), BEFORE: ("whole", before)}
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = await stack.enter_async_context(running("bench.client.server", "prompt", str(folder / "prompt.log")))
        callers = {}
        for name, (kind, tree) in clients.items():
            log = str(folder / f"{name}.log")
            callers[name] = await stack.enter_async_context(running("bench.client.caller", kind, log, tree))
            await ask(callers[name], server.target)

        async def turn(contestant: str) -> Turn:
            return await turn_of(callers[contestant], effort.seconds)

        results = await play([*clients], turn, effort)

    def cheaper(other: str) -> list[float]:
        return results.ratios(lambda turns: turns[other].cpu_s / turns["whole client"].cpu_s)

    ratios = [
        Ratio("client_vs_bare", cheaper("bare client"), 0.85),
        Ratio("client_vs_before", cheaper(BEFORE)),
    ]
    return Report("client", effort, results, ratios, cpu_of="client")
