"""The ItemService."""

from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from typing import Any, Final, override

from google.protobuf.empty_pb2 import Empty
from grpc.aio import ServicerContext

from grpc_common.error_trailers import error_details
from grpc_common.errors import AbortedError, AppException, ConflictError, NotFoundError, ValidationError
from grpc_common.listing.page_token import PageTokens
from grpc_common.principal import current_principal
from grpc_common.streaming import answered, batched
from grpc_common.validation.requests import each_request
from items.batch import Asked, BatchCreation
from items.feed import ChangeFeed
from items.item import checked_id
from items.mapper import ItemMapper
from items.pages import ItemPages
from items.repeat import RequestMark
from items.repository import Addition, ItemRepository
from items.tokens import ResumeTokens
from meshwork.items.v1 import items_service_pb2 as pb
from meshwork.items.v1.items_service_pb2_grpc import ItemServiceServicer

type Context = ServicerContext[Any, Any]

REFUSALS: Final = (ValidationError, NotFoundError, ConflictError, AbortedError)
"""What may be wrong with one action of a stream, and says nothing about the next."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamLimits:
    """The most items of a batch, how many of them a transaction has, how many actions of a sync are read ahead, and
    after how many quiet seconds a watch has a heartbeat.
    """

    batch_items: int
    transaction_items: int
    ahead: int
    heartbeat: float


class ItemService(ItemServiceServicer):
    """Each RPC reads the request, asks the repository, maps the answer; what goes wrong is raised."""

    def __init__(
        self,
        repository: ItemRepository,
        feed: ChangeFeed,
        tokens: PageTokens,
        limits: StreamLimits,
        *,
        clock: Callable[[], datetime],
        new_id: Callable[[], str],
    ) -> None:
        self._repository = repository
        self._feed = feed
        self._pages = ItemPages(repository, tokens)
        self._batches = BatchCreation(repository, most=limits.batch_items)
        self._resume = ResumeTokens(tokens)
        self._limits = limits
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

    @override
    async def SearchItems(self, request: pb.SearchItemsRequest, context: Context) -> pb.SearchItemsResponse:
        """Returns a page."""
        items, token = await self._pages.page(request.filter, request.order_by, request.page_token, request.page_size)
        return pb.SearchItemsResponse(items=self._mapper.to_proto_list(items), next_page_token=token)

    @override
    async def ListItems(self, request: pb.ListItemsRequest, context: Context) -> AsyncIterator[pb.Item]:
        """Streams items, and in the trailers says where to go on."""
        stream = self._pages.stream(request.filter, request.order_by, request.page_token, request.page_size)
        async for item in stream:
            yield self._mapper.to_proto(item)
        if stream.next_page_token:
            context.set_trailing_metadata((("next-page-token", stream.next_page_token),))

    @override
    async def BatchCreateItems(
        self, request_iterator: AsyncIterator[pb.CreateItemRequest], context: Context
    ) -> pb.BatchCreateResponse:
        """Creates items in the order they come, some hundred at a time."""
        asked = (self._asked(request) async for request in each_request(request_iterator))
        outcome = await self._batches.run(batched(asked, self._limits.transaction_items))
        errors = [detail for error in outcome.errors for detail in error_details(error)]
        return pb.BatchCreateResponse(created_count=len(outcome.ids), created_ids=outcome.ids, errors=errors)

    @override
    async def SyncItems(
        self, request_iterator: AsyncIterator[pb.ItemSyncRequest], context: Context
    ) -> AsyncIterator[pb.ItemSyncResponse]:
        """Applies one action after the other, and reads and answers meanwhile."""
        places = count()

        async def answer(request: pb.ItemSyncRequest | ValidationError) -> pb.ItemSyncResponse:
            response = pb.ItemSyncResponse(index=next(places))
            try:
                response.id = await self._apply(request)
                response.success = True
            except REFUSALS as refusal:
                response.id = _id_of(request)
                response.error.CopyFrom(error_details(refusal)[0])
            return response

        async with aclosing(answered(each_request(request_iterator), answer, ahead=self._limits.ahead)) as answers:
            async for one in answers:
                yield one

    @override
    async def WatchItems(self, request: pb.WatchItemsRequest, context: Context) -> AsyncIterator[pb.WatchItemsResponse]:
        """Streams changes as they are committed, and signs of life between them."""
        after = self._resume.read(request.resume_token)
        async with aclosing(self._feed.follow(after, quiet=self._limits.heartbeat)) as news:
            async for one in news:
                if isinstance(one, int):
                    yield pb.WatchItemsResponse(heartbeat=pb.Heartbeat(), resume_token=self._resume.write(one))
                else:
                    change = self._mapper.change_to_proto(one.change)
                    yield pb.WatchItemsResponse(change=change, resume_token=self._resume.write(one.position))

    def _addition(self, request: pb.CreateItemRequest) -> Addition:
        new = self._mapper.new_item(request)
        mark = RequestMark.of(request.request_id, _caller(), new) if request.request_id else None
        return Addition(new.become(self._new_id(), self._clock()), mark)

    def _asked(self, request: pb.CreateItemRequest | ValidationError) -> Asked:
        try:
            return request if isinstance(request, ValidationError) else self._addition(request)
        except ValidationError as error:
            return error

    async def _apply(self, request: pb.ItemSyncRequest | ValidationError) -> str:
        """Does what one action says, and returns the id of its item."""
        if isinstance(request, AppException):
            raise request
        if request.HasField("upsert"):
            item = await self._repository.put(self._mapper.whole_item(request.upsert, self._new_id), self._clock())
            return item.id
        await self._repository.delete(checked_id(request.delete_id), self._clock())
        return request.delete_id


def _id_of(request: pb.ItemSyncRequest | ValidationError) -> str:
    if isinstance(request, ValidationError):
        return ""
    return request.upsert.id if request.HasField("upsert") else request.delete_id


def _caller() -> tuple[str, str]:
    """Returns who vouches for the caller, and the caller's name; nobody is asked for one where anybody may call."""
    principal = current_principal()
    return (principal.issuer, principal.subject) if principal else ("", "")
