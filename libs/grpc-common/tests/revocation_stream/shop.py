"""A service that answers and streams, told what is taken back: `python shop.py`."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from pydantic_settings import SettingsConfigDict

from grpc_common.application import Application
from grpc_common.revocations import Revocation
from grpc_common.run import run
from grpc_common.settings import GRPCServerSettings, ServiceSettings
from meshwork.items.v1 import items_service_pb2 as pb
from meshwork.items.v1 import items_service_pb2_grpc as rpc


class ShopSettings(ServiceSettings):
    model_config = SettingsConfigDict(env_prefix="SHOP_")
    grpc: GRPCServerSettings = GRPCServerSettings(enabled=True, host="127.0.0.1", port=0)
    taken_back: tuple[str, ...] = ()
    """What it took back of late, as the service that issues tokens knows from its database."""


class Items(rpc.ItemServiceServicer):
    async def GetItem(self, request: pb.GetItemRequest, context: Any) -> pb.Item:
        return pb.Item(id=request.id)

    async def WatchItems(self, request: pb.WatchItemsRequest, context: Any) -> AsyncIterator[pb.WatchItemsResponse]:
        yield pb.WatchItemsResponse()
        await asyncio.Event().wait()


@asynccontextmanager
async def build(settings: ShopSettings) -> AsyncIterator[Application]:
    items = Items()  # type: ignore[abstract]  # the other methods answer UNIMPLEMENTED

    async def taken_back() -> Iterable[Revocation]:
        return [Revocation(each, time.time() + 600) for each in settings.taken_back]

    register = partial(rpc.add_ItemServiceServicer_to_server, items)
    yield Application(register, restore_revocations=taken_back if settings.taken_back else None)


if __name__ == "__main__":
    run(build, ShopSettings)
