"""The ItemService."""

from collections.abc import Callable
from datetime import datetime
from typing import Any, override

from google.protobuf.empty_pb2 import Empty
from grpc.aio import ServicerContext

from items.item import checked_id
from items.mapper import ItemMapper
from items.repository import ItemRepository
from meshwork.items.v1 import items_service_pb2 as pb
from meshwork.items.v1.items_service_pb2_grpc import ItemServiceServicer

type Context = ServicerContext[Any, Any]


class ItemService(ItemServiceServicer):
    """Each RPC reads the request, asks the repository, maps the answer; what goes wrong is raised."""

    def __init__(
        self,
        repository: ItemRepository,
        *,
        clock: Callable[[], datetime],
        new_id: Callable[[], str],
    ) -> None:
        self._repository = repository
        self._clock = clock
        self._new_id = new_id
        self._mapper = ItemMapper()

    @override
    async def GetItem(self, request: pb.GetItemRequest, context: Context) -> pb.Item:
        """Returns one item."""
        item = await self._repository.get(checked_id(request.id))
        return self._mapper.to_proto(item)

    @override
    async def CreateItem(self, request: pb.CreateItemRequest, context: Context) -> pb.Item:
        """Creates an item, with an id and times of our own."""
        item = self._mapper.new_item(request).become(self._new_id(), self._clock())
        await self._repository.add(item)
        return self._mapper.to_proto(item)

    @override
    async def UpdateItem(self, request: pb.UpdateItemRequest, context: Context) -> pb.Item:
        """Changes the fields that are present."""
        item = await self._repository.update(self._mapper.change(request), self._clock())
        return self._mapper.to_proto(item)

    @override
    async def DeleteItem(self, request: pb.DeleteItemRequest, context: Context) -> Empty:
        """Deletes an item."""
        await self._repository.delete(checked_id(request.id))
        return Empty()
