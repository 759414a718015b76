"""What the service asks of the place that keeps items."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from grpc_common.errors import AppException
from grpc_common.listing.order import Position
from grpc_common.listing.query import Query
from items.item import Item, ItemChange, WholeItem
from items.repeat import RequestMark


@dataclass(frozen=True, slots=True)
class Addition:
    """An item to be added, and by which repeats of the request are known, if the caller wants that."""

    item: Item
    mark: RequestMark | None = None


class ItemRepository(Protocol):
    """Keeps items, and with every change of one a record of it. Each verb is done whole or not at all.

    Every verb raises ExternalServiceError when the database cannot be reached or does not answer in time, and
    DatabaseError when it fails in another way.
    """

    async def get(self, item_id: str) -> Item:
        """Returns the item, or raises NotFoundError."""
        ...

    async def page(self, query: Query, after: Position | None, limit: int) -> Sequence[Item]:
        """Returns the first items of a list after a position in it, or from its begin."""
        ...

    async def add(self, addition: Addition) -> Item:
        """Keeps a new item and returns it; where the mark is known returns the item as it was first created.

        Raises:
            ConflictError: with the field that another item has already.
            ValidationError: for `request_id`, when the mark stands for another request.
        """
        ...

    async def add_many(self, additions: Sequence[Addition]) -> Sequence[Item | AppException]:
        """Does the same for some hundred, in one transaction and in their order; returns, in that order too, what each
        came to: an error stands for an item that is not kept, and leaves the others alone.
        """
        ...

    async def update(self, change: ItemChange, now: datetime) -> Item:
        """Writes the fields that change, and no others, and returns the item as it then is.

        `updated_at` becomes `now`, but never goes back. A change of nothing leaves it.

        Raises:
            NotFoundError: there is no such item.
            AbortedError: it does not have the etag that the change names.
        """
        ...

    async def put(self, wanted: WholeItem, now: datetime) -> Item:
        """Keeps the item as it is wanted, new or in place of what it was, and returns it. One that is as wanted already
        is left alone.

        Raises:
            AbortedError: it does not have the etag that is named, or is not there.
            ConflictError: another item has the sku.
            ValidationError: for `sku`, when the item has another one.
        """
        ...

    async def delete(self, item_id: str, now: datetime, etag: str = "") -> None:
        """Removes the item.

        Raises:
            NotFoundError: there is no such item.
            AbortedError: it does not have this etag.
        """
        ...
