"""The ItemService."""

from collections.abc import Callable
from datetime import datetime
from typing import Any, override

from google.protobuf.empty_pb2 import Empty
from grpc.aio import ServicerContext

from grpc_common.principal import current_principal
from items.item import checked_id
from items.mapper import ItemMapper
from items.repeat import RequestMark
from items.repository import Addition, ItemRepository
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
        item = await self._repository.add(self._addition(request))
        return self._mapper.to_proto(item)

    @override
    async def UpdateItem(self, request: pb.UpdateItemRequest, context: Context) -> pb.Item:
        """Changes the fields that are present."""
        item = await self._repository.update(self._mapper.change(request), self._clock())
        return self._mapper.to_proto(item)

    @override
    async def DeleteItem(self, request: pb.DeleteItemRequest, context: Context) -> Empty:
        """Deletes an item."""
        await self._repository.delete(checked_id(request.id), self._clock(), request.etag)
        return Empty()

    def _addition(self, request: pb.CreateItemRequest) -> Addition:
        new = self._mapper.new_item(request)
        mark = RequestMark.of(request.request_id, _caller(), new) if request.request_id else None
        return Addition(new.become(self._new_id(), self._clock()), mark)


def _caller() -> tuple[str, str]:
    """Returns who vouches for the caller, and the caller's name; nobody is asked for one where anybody may call."""
    principal = current_principal()
    return (principal.issuer, principal.subject) if principal else ("", "")
