"""Lists of items, by the page and as a stream."""

from collections.abc import AsyncIterator, Sequence
from typing import Final

from grpc_common.listing.order import Position
from grpc_common.listing.page_size import page_size
from grpc_common.listing.page_token import PageTokens
from grpc_common.listing.query import Query
from items.item import Item
from items.listed import ITEM_LIST
from items.repository import ItemRepository

DEFAULT_PAGE: Final = 50
LARGEST_PAGE: Final = 1_000
READ_AT_ONCE: Final = 500


class ItemPages:
    """Reads lists in the order asked for, page by page; a token goes on where the page before ended (AIP-158)."""

    def __init__(self, repository: ItemRepository, tokens: PageTokens) -> None:
        self._repository = repository
        self._tokens = tokens

    async def page(self, filter_: str, order_by: str, token: str, size: int) -> tuple[Sequence[Item], str]:
        """Returns a page and the token of the next one, which is empty after the last.

        Raises:
            ValidationError: naming the argument that is wrong.
        """
        query = ITEM_LIST.query(filter=filter_, order_by=order_by)
        wanted = page_size(size, default=DEFAULT_PAGE, most=LARGEST_PAGE)
        items = await self._repository.page(query, self._tokens.read(token, query), wanted + 1)
        return items[:wanted], self._next(query, items, wanted)

    def stream(self, filter_: str, order_by: str, token: str, most: int) -> "ItemStream":
        """Returns a list as a stream of `most` items, or all when that is 0. Raises ValidationError as `page` does."""
        query = ITEM_LIST.query(filter=filter_, order_by=order_by)
        return ItemStream(self._repository, self._tokens, query, self._tokens.read(token, query), most)

    def _next(self, query: Query, items: Sequence[Item], wanted: int) -> str:
        return token_after(self._tokens, query, items[wanted - 1]) if len(items) > wanted else ""


class ItemStream:
    """One list as a stream. It holds some hundred items and, while its reader is busy with them, no connection."""

    def __init__(
        self, repository: ItemRepository, tokens: PageTokens, query: Query, start: Position | None, most: int
    ) -> None:
        self._repository = repository
        self._tokens = tokens
        self._query = query
        self._position = start
        self._most = most
        self.next_page_token = ""
        """The token to go on with, once the stream has ended before the list did."""

    async def __aiter__(self) -> AsyncIterator[Item]:
        left = self._most or None
        while True:
            wanted = READ_AT_ONCE if left is None else min(READ_AT_ONCE, left)
            items = await self._repository.page(self._query, self._position, wanted + 1)
            for item in items[:wanted]:
                yield item
            if len(items) <= wanted:
                return
            last = items[wanted - 1]
            self._position = self._query.position(values_of(last))
            if left is not None and (left := left - wanted) == 0:
                self.next_page_token = token_after(self._tokens, self._query, last)
                return


def token_after(tokens: PageTokens, query: Query, item: Item) -> str:
    """Returns the token with which the list goes on after the item."""
    return tokens.write(query, query.position(values_of(item)))


def values_of(item: Item) -> dict[str, object]:
    """Returns the fields of the item by name."""
    return {field: getattr(item, field) for field in Item.__dataclass_fields__}
