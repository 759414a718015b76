"""A real server in the test's own process."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import grpc.aio

from grpc_common.default_chain import default_chain


@asynccontextmanager
async def in_process(
    register: Callable[[Any], None],
    interceptors: Sequence[grpc.aio.ServerInterceptor] | None = None,
) -> AsyncIterator[grpc.aio.Channel]:
    """Serve what `register` adds, with the default chain unless told otherwise, and give a channel to it."""
    server = grpc.aio.server(interceptors=[default_chain()] if interceptors is None else list(interceptors))
    register(server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield channel
    finally:
        await server.stop(0.5)
