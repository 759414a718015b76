"""The command `bench/run`."""

import argparse
import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Final

from bench.before import tree_of
from bench.chain.benchmark import measure as measure_chain
from bench.client.benchmark import measure as measure_client
from bench.interceptors.benchmark import measure as measure_interceptors
from bench.items.benchmark import measure as measure_items
from bench.mesh.benchmark import measure as measure_mesh
from bench.report import Report, as_json, show
from bench.rounds import Effort

BENCHMARKS: Final[dict[str, tuple[str, Callable[[Effort], Awaitable[Report]]]]] = {
    "items": (
        "the items service ÷ its statements by asyncpg, ÷ SQLModel, and with 10⁶ items",
        measure_items,
    ),
    "chain": ("the interceptor chain ÷ bare grpc.aio, the stock stack, grpc-server-kit", measure_chain),
    "client": ("the whole client ÷ a bare grpc.aio client, and what hedging gains", measure_client),
    "interceptors": ("what each interceptor adds to a unary call, without a wire", measure_interceptors),
    "mesh": ("a call through ingress and sidecar ÷ the same call straight to the service", measure_mesh),
}
COMPARABLE: Final = ("chain", "client")


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench/run", description="Measures, and answers with ratios from one run.")
    parser.add_argument("name", nargs="?", choices=sorted(BENCHMARKS), help="what to measure")
    parser.add_argument("--list", action="store_true", help="list the benchmarks")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else on standard output")
    parser.add_argument("--rounds", type=int, default=7, help="rounds, each with all contestants (default 7)")
    parser.add_argument("--seconds", type=float, default=3.0, help="seconds per contestant and round (default 3)")
    parser.add_argument("--before", metavar="COMMIT", help="the library at that commit competes, too (chain, client)")
    arguments = parser.parse_args()
    if arguments.list:
        for name, (what, _) in sorted(BENCHMARKS.items()):
            print(f"{name:12} {what}")
        return 0
    if arguments.name is None:
        parser.error("name a benchmark; --list names them")
    before = None
    if arguments.before is not None:
        if arguments.name not in COMPARABLE:
            parser.error(f"--before goes with {' and '.join(COMPARABLE)}")
        try:
            before = tree_of(arguments.before)
        except ValueError as error:
            parser.error(str(error))
    _, measure = BENCHMARKS[arguments.name]
    report = asyncio.run(measure(Effort(arguments.rounds, arguments.seconds, before)))
    if arguments.json:
        print(json.dumps(as_json(report)))
    else:
        show(report)
    return 0


if __name__ == "__main__":
    sys.exit(main())
