"""What each interceptor costs a unary call: alone in a loop, and where other work has emptied the caches in between.

The second is nearer to a server, which between two steps of a call goes through the kernel, core and other threads.
"""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter, process_time, thread_time
from typing import Any, Final

import psutil
from grpc import unary_unary_rpc_method_handler
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from prometheus_client import CollectorRegistry
from rich.table import Table

from bench.chain.shop import Shop
from bench.chain.tokens import AUDIENCE, ISSUER, write_keys
from bench.contestant import SERVER_CORE, pin
from bench.interceptors.memory_context import MemoryContext
from bench.report import Ratio, Report
from bench.rounds import Effort, Results, Turn, play
from grpc_common.call import Method
from grpc_common.chain import Chain, Interceptor
from grpc_common.default_chain import default_interceptors
from grpc_common.jwks import JWKSFile
from grpc_common.log_sink import LogSink
from grpc_common.logs import configure_logs
from grpc_common.token_verifier import Issuer, TokenVerifier
from grpc_common.traces import Tracing
from meshwork.items.v1 import items_service_pb2 as pb

PATH: Final = "/meshwork.items.v1.ItemService/GetItem"
NONE, WHOLE, COLD = "no interceptor", "the whole chain", ", cold"
SAMPLED: Final = 0.01
ELSEWHERE: Final = bytearray(8 * 2**20)
"""Bytes; more than the caches of one core hold."""


class _Nowhere(SpanExporter):
    def export(self, spans: Sequence[Any]) -> SpanExportResult:  # noqa: ARG002
        return SpanExportResult.SUCCESS


async def measure(effort: Effort) -> Report:
    """Run the benchmark, all contestants in this process."""
    pin(SERVER_CORE)
    with tempfile.TemporaryDirectory() as folder, open(os.devnull, "wb", buffering=0) as nowhere:  # noqa: ASYNC230, PTH123
        tokens = write_keys(Path(folder))
        sink = configure_logs("info", LogSink(nowhere.write, lambda _: b""))
        verifier = TokenVerifier([Issuer(ISSUER, AUDIENCE, JWKSFile(Path(folder) / "jwks.json"))])
        tracing = Tracing("bench", ratio=SAMPLED, exporter=_Nowhere())
        parts = default_interceptors(
            max_concurrent_rpcs=100, jwt_service=verifier, tracer=tracing.tracer, registry=CollectorRegistry()
        )
        contestants: dict[str, list[Interceptor]] = {
            NONE: [],
            **{type(part).__name__: [part] for part in parts},
            WHOLE: parts,
        }
        metadata = [(("user-agent", "bench"), ("authorization", f"Bearer {token}")) for token in tokens]

        async def turn(name: str) -> Turn:
            cold = name.endswith(COLD)
            return await _calls(contestants[name.removesuffix(COLD)], metadata, effort.seconds, sink, cold=cold)

        results = await play([*contestants, *(f"{name}{COLD}" for name in contestants)], turn, effort)
        sink.close()
        tracing.close()

    def slower(suffix: str) -> list[float]:
        return results.ratios(lambda turns: turns[WHOLE + suffix].cpu_s / turns[NONE + suffix].cpu_s)

    ratios = [Ratio("whole_vs_none", slower("")), Ratio("whole_vs_none_cold", slower(COLD))]
    return Report("interceptors", effort, results, ratios, [_table(results, list(contestants))])


async def _calls(
    interceptors: Sequence[Interceptor],
    metadata: Sequence[tuple[tuple[str, str], ...]],
    seconds: float,
    sink: LogSink,
    *,
    cold: bool,
) -> Turn:
    handler = unary_unary_rpc_method_handler(Shop().GetItem, pb.GetItemRequest.FromString, pb.Item.SerializeToString)
    compiled = Chain(interceptors).compile(handler, Method.of(PATH, handler))
    run: Any = compiled.unary_unary
    request = pb.GetItemRequest(id="018f3f6e-7b1a-7cc0-9a43-2f2f6c1d2e3f").SerializeToString()
    for sent in metadata:  # a token is verified at its first call: that is not what is measured
        await run(request, MemoryContext(sent))
    calls, inside, end = 0, 0.0, perf_counter() + seconds
    others = process_time() - thread_time()
    while perf_counter() < end:
        for sent in metadata:
            context = MemoryContext(sent)
            if cold:
                ELSEWHERE[::64]  # a look at every line of it
            began = thread_time()
            await run(request, context)
            inside += thread_time() - began
            calls += 1
    sink.flush(60)
    # What other threads do for the calls counts as well: they render the log's lines, many at a time.
    each = (inside + process_time() - thread_time() - others) / calls
    return Turn(1 / each, each * 1000, each * 1000, each, psutil.Process().memory_info().rss / 2**20)


def _table(results: Results, contestants: Sequence[str]) -> Table:
    table = Table(title="µs that an interceptor adds to a call (with 1 % of the traces recorded)")
    for column in ("interceptor", "in a loop", "cold"):
        table.add_column(column, justify="left" if column == "interceptor" else "right")
    for name in contestants[1:]:
        added = [
            f"{(results.median(name + suffix, 'cpu_s') - results.median(NONE + suffix, 'cpu_s')) * 1e6:.1f}"
            for suffix in ("", COLD)
        ]
        table.add_row(name, *added)
    return table
