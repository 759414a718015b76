"""What a call costs by way of ingress and sidecar, against the same call straight to the service."""

import asyncio
import json
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import psutil

from bench.contestant import LOAD_CORE, SERVER_CORE, pin
from bench.load import Load
from bench.report import Ratio, Report
from bench.rounds import Effort, Turn, play
from localmesh import ports, topology

CONTESTANTS: Final = ("direct", "mesh")
CONCURRENCY: Final = 4
LIMIT: Final = "calls_per_second = 5000"


async def measure(effort: Effort) -> Report:
    """Run the benchmark: the same service, an item read from PostgreSQL, a token checked, mutual TLS on the way."""
    pin(LOAD_CORE)
    import grpc.aio  # its threads must begin on their core

    from meshwork.items.v1 import items_service_pb2 as pb
    from meshwork.items.v1 import items_service_pb2_grpc as rpc

    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        status = await stack.enter_async_context(_mesh(folder))
        (service,) = [each for each in status["services"] if each["name"] == "items"]
        credentials = grpc.ssl_channel_credentials(_roots(status))
        straight = await stack.enter_async_context(grpc.aio.insecure_channel(service["grpc"]))
        through = await stack.enter_async_context(grpc.aio.secure_channel(status["ingress"]["grpc"], credentials))
        stubs = {"direct": rpc.ItemServiceStub(straight), "mesh": rpc.ItemServiceStub(through)}
        made = await stubs["direct"].CreateItem(
            pb.CreateItemRequest(name="Kettle", sku="KIT-1"), metadata=await _metadata(folder)
        )
        request = pb.GetItemRequest(id=made.id)
        process = psutil.Process(service["pid"])

        async def turn(contestant: str) -> Turn:
            stub = stubs[contestant]

            async def get(sent: Sequence[tuple[str, str]]) -> int:
                await stub.GetItem(request, metadata=sent)
                return 1

            metadata = await _metadata(folder)  # a token lives for minutes, and all the rounds may take longer
            return await Load(CONCURRENCY, [metadata]).run(get, process, effort.seconds)

        results = await play(CONTESTANTS, turn, effort)

    def longer(figure: str) -> Callable[[Mapping[str, Turn]], float]:
        return lambda turns: float(getattr(turns["mesh"], figure) / getattr(turns["direct"], figure))

    ratios = [
        Ratio("mesh_p50_vs_direct", results.ratios(longer("p50_ms")), 3.0, at_most=True),
        Ratio("mesh_p99_vs_direct", results.ratios(longer("p99_ms")), 4.0, at_most=True),
    ]
    return Report("mesh", effort, results, ratios)


def _roots(status: Mapping[str, Any]) -> bytes:
    return Path(status["ingress"]["ca"]).read_bytes()


async def _metadata(state: Path) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {(await _run(state, 'token')).strip()}"),)


@asynccontextmanager
async def _mesh(state: Path) -> AsyncIterator[dict[str, Any]]:
    """A mesh of its own, on the servers' core; yields what `status --json` says."""
    described = state / "topology.toml"
    text = topology.IN_THE_TREE.read_text()
    if LIMIT not in text:
        raise RuntimeError("the topology has another rate limit than this benchmark lifts")
    described.write_text(text.replace(LIMIT, "calls_per_second = 1000000"))
    await _run(state, "--topology", str(described), "up", "--detach", "--port", str(ports.free_port()))
    try:
        status: dict[str, Any] = json.loads(await _run(state, "status", "--json"))
        supervisor = psutil.Process(int((state / "lock").read_text().split()[0]))
        for process in (supervisor, *supervisor.children(recursive=True)):
            for thread in process.threads():
                psutil.Process(thread.id).cpu_affinity([SERVER_CORE])
        yield status
    finally:
        await _run(state, "down")


async def _run(state: Path, *arguments: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "localmesh", "--state", str(state), *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    if process.returncode != 0:
        raise RuntimeError(f"./mesh {' '.join(arguments)} failed: {err.decode()}")
    return out.decode()
