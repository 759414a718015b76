"""The handlers that all contestants serve: a unary reply of about 100 bytes, and a stream of them."""

from collections.abc import AsyncIterator
from typing import Any

from meshwork.items.v1 import items_service_pb2 as pb
from meshwork.items.v1 import items_service_pb2_grpc as rpc

ITEM = pb.Item(
    id="018f3f6e-7b1a-7cc0-9a43-2f2f6c1d2e3f",
    name="Stoneware mug, 350 ml",
    sku="mug-stoneware-350",
    quantity=42,
    price=12.5,
    is_active=True,
)


class Shop(rpc.ItemServiceServicer):
    """Answers from memory, so that the time measured is the server's and the chain's."""

    async def GetItem(self, request: pb.GetItemRequest, context: Any) -> pb.Item:  # noqa: ARG002, N802
        """Return the one item."""
        return ITEM

    async def ListItems(self, request: pb.ListItemsRequest, context: Any) -> AsyncIterator[pb.Item]:  # noqa: ARG002, N802
        """Stream it `page_size` times."""
        for _ in range(request.page_size):
            yield ITEM
