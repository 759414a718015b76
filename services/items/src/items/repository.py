"""What the service asks of the place that keeps items."""

from datetime import datetime
from typing import Protocol

from items.item import Item, ItemChange


class ItemRepository(Protocol):
    """Keeps items. Each verb is done whole or not at all.

    Every verb raises ExternalServiceError when the database cannot be reached or does not answer in time, and
    DatabaseError when it fails in another way.
    """

    async def get(self, item_id: str) -> Item:
        """Returns the item, or raises NotFoundError."""
        ...

    async def add(self, item: Item) -> None:
        """Keeps a new item, or raises ConflictError with the field that another item has already."""
        ...

    async def update(self, change: ItemChange, now: datetime) -> Item:
        """Writes the fields that change, and no others, and returns the item as it then is, or raises NotFoundError.

        `updated_at` becomes `now`, but never goes back. A change of nothing leaves it.
        """
        ...

    async def delete(self, item_id: str) -> None:
        """Removes the item, or raises NotFoundError."""
        ...
