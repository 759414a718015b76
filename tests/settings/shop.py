"""A service that experiments start as a process of its own: `python -m shop`, told by SHOP_…."""

import asyncio
import threading
import time
from contextlib import asynccontextmanager
from functools import partial

import structlog
from pydantic_settings import SettingsConfigDict

from grpc_common.application import Application
from grpc_common.run import run
from grpc_common.settings import GRPCServerSettings, ServiceSettings
from meshwork.items.v1 import items_service_pb2 as pb
from meshwork.items.v1 import items_service_pb2_grpc as rpc


class ShopSettings(ServiceSettings):
    """All that every service can be told."""

    model_config = SettingsConfigDict(env_prefix="SHOP_")
    grpc: GRPCServerSettings = GRPCServerSettings(enabled=True, host="127.0.0.1", port=0)


class Items(rpc.ItemServiceServicer):
    """Does what the id of the item wanted says."""

    async def GetItem(self, request, context):
        """Sleeps for so many seconds, or tells how many threads worked at once."""
        if request.id == "threads":
            return pb.Item(id=request.id, quantity=await most_at_once())
        structlog.get_logger().info("entered")
        await asyncio.sleep(float(request.id))
        return pb.Item(id=request.id)


async def most_at_once():
    """How many of six blocking pieces of work were done at once, at most."""
    most, running, lock = 0, 0, threading.Lock()

    def work():
        nonlocal most, running
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.5)
        with lock:
            running -= 1

    await asyncio.gather(*(asyncio.to_thread(work) for _ in range(6)))
    return most


async def website(scope, receive, send):
    """Answers."""
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
    await send({"type": "http.response.body", "body": b"done"})


@asynccontextmanager
async def build(settings):
    """The service."""
    yield Application(partial(rpc.add_ItemServiceServicer_to_server, Items()), http=website)


if __name__ == "__main__":
    run(build, ShopSettings)
