"""What the clients call: `python -m bench.client.server prompt` answers at once, `uneven` is slow now and then."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any, Final

from bench.contestant import SERVER_CORE, pin, serve

pin(SERVER_CORE)

from grpc import aio  # noqa: E402  # grpc's threads must begin on their core

from bench.chain.shop import ITEM, Shop  # noqa: E402
from meshwork.items.v1 import items_service_pb2 as pb  # noqa: E402
from meshwork.items.v1.items_service_pb2_grpc import add_ItemServiceServicer_to_server  # noqa: E402

USUAL: Final = 0.005
"""Seconds of most replies."""
SLOWER: Final = 20
SLOW_SHARE: Final = 0.02


class UnevenShop(Shop):
    """One reply of fifty takes twenty times as long as the others."""

    def __init__(self) -> None:
        self._random = Random(1)  # noqa: S311  # the same for all contestants

    async def GetItem(self, request: pb.GetItemRequest, context: Any) -> pb.Item:  # noqa: ARG002, N802
        """Return the one item, after a while."""
        await asyncio.sleep(USUAL * (SLOWER if self._random.random() < SLOW_SHARE else 1))
        return ITEM


SHOPS: Final[dict[str, Callable[[], Shop]]] = {"prompt": Shop, "uneven": UnevenShop}


def maker(name: str) -> Callable[[], Awaitable[aio.Server]]:
    """Return what makes the server of that name, not yet started."""

    async def make() -> aio.Server:
        server = aio.server()
        add_ItemServiceServicer_to_server(SHOPS[name](), server)
        return server

    return make


if __name__ == "__main__":
    asyncio.run(serve(maker(sys.argv[1])))
