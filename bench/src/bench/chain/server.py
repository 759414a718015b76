"""One contestant: `python -m bench.chain.server NAME`, with the folder of the keys in BENCH_KEYS."""

import asyncio
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import uvloop

from bench.contestant import SERVER_CORE, pin, serve

pin(SERVER_CORE)

import structlog  # noqa: E402  # grpc's threads must begin on their core
from grpc import aio  # noqa: E402
from opentelemetry.sdk.trace import TracerProvider  # noqa: E402
from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: E402
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased  # noqa: E402
from prometheus_client import CollectorRegistry  # noqa: E402

from bench.chain import kit, stock  # noqa: E402
from bench.chain.shop import Shop  # noqa: E402
from bench.chain.tokens import AUDIENCE, ISSUER  # noqa: E402
from bench.nowhere import Nowhere  # noqa: E402
from grpc_common.chain import Chain  # noqa: E402
from grpc_common.default_chain import default_interceptors  # noqa: E402
from grpc_common.jwks import JWKSFile  # noqa: E402
from grpc_common.logs import configure_logs  # noqa: E402
from grpc_common.token_verifier import Issuer, TokenVerifier  # noqa: E402
from grpc_common.traces import Tracing  # noqa: E402
from meshwork.items.v1.items_service_pb2_grpc import add_ItemServiceServicer_to_server  # noqa: E402

SAMPLED: Final = 0.01
KEYS: Final = Path(os.environ["BENCH_KEYS"])


def stock_tracing() -> TracerProvider:
    """Return the SDK's provider, as its documentation sets it up."""
    provider = TracerProvider(sampler=ParentBased(TraceIdRatioBased(SAMPLED)))
    provider.add_span_processor(BatchSpanProcessor(Nowhere()))
    return provider


def whole_chain() -> list[aio.ServerInterceptor]:
    """Return the default chain with everything on."""
    configure_logs("info")
    verifier = TokenVerifier([Issuer(ISSUER, AUDIENCE, JWKSFile(KEYS / "jwks.json"))])
    tracing = Tracing("bench", ratio=SAMPLED, exporter=Nowhere())
    parts = default_interceptors(
        max_concurrent_rpcs=10_000, jwt_service=verifier, tracer=tracing.tracer, registry=CollectorRegistry()
    )
    return [Chain(parts)]


def stock_stack() -> list[aio.ServerInterceptor]:
    """Return the usual packages, with JSON lines to standard error as ours are."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    return stock.interceptors(stock_tracing(), KEYS / "jwks.json")


def kit_chain() -> list[aio.ServerInterceptor]:
    """Return the kit's chain, with lines to standard error as ours are."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    return kit.interceptors(stock_tracing())


CHAINS: Final[dict[str, Callable[[], list[aio.ServerInterceptor]]]] = {
    "bare": list,
    "chain": whole_chain,
    "stock": stock_stack,
    "kit": kit_chain,
}


async def make_server(name: str) -> aio.Server:
    """Return the server of a contestant, not yet started."""
    server = aio.server(interceptors=CHAINS[name]())
    add_ItemServiceServicer_to_server(Shop(), server)
    return server


if __name__ == "__main__":
    contestant, _, loop = sys.argv[1].partition("+")
    run = uvloop.run if loop == "uvloop" else asyncio.run
    run(serve(lambda: make_server(contestant)))
