"""Items between the domain and the wire."""

from collections.abc import Callable
from typing import Final

from grpc_common.errors import ValidationError
from grpc_common.etag import etag_of, version_of
from grpc_common.mappers import ProtobufMapper
from grpc_common.timestamps import from_timestamp, to_timestamp
from items.change import Change, ChangeKind
from items.item import Item, ItemChange, NewItem, WholeItem
from meshwork.items.v1 import items_service_pb2 as pb


class ItemMapper(ProtobufMapper[Item, pb.Item]):
    """Maps items both ways without loss, and the requests to what they ask for."""

    def to_proto(self, entity: Item) -> pb.Item:
        """Returns the message that says all that the item says."""
        return pb.Item(
            id=entity.id,
            name=entity.name,
            description=entity.description,
            sku=entity.sku,
            quantity=entity.quantity,
            price=_unsigned(entity.price),
            is_active=entity.is_active,
            created_at=to_timestamp(entity.created_at),
            updated_at=to_timestamp(entity.updated_at),
            etag=etag_of(entity.version),
        )

    def from_proto(self, proto: pb.Item) -> Item:
        """Returns the item; a time beyond the years 1 to 9999 or an etag of no item raises ValidationError. What is
        finer than a microsecond is cut off.
        """
        return Item(
            id=proto.id,
            name=proto.name,
            description=proto.description,
            sku=proto.sku,
            quantity=proto.quantity,
            price=proto.price,
            is_active=proto.is_active,
            created_at=from_timestamp("created_at", proto.created_at),
            updated_at=from_timestamp("updated_at", proto.updated_at),
            version=_version(proto.etag),
        )

    def new_item(self, request: pb.CreateItemRequest) -> NewItem:
        """Returns the item to be, or raises ValidationError naming every bad field."""
        return NewItem(
            name=request.name,
            description=request.description,
            sku=request.sku,
            quantity=request.quantity,
            price=_unsigned(request.price),
        )

    def change(self, request: pb.UpdateItemRequest) -> ItemChange:
        """Returns the fields that are present, or raises ValidationError naming every bad one."""
        return ItemChange(
            id=request.id,
            name=request.name if request.HasField("name") else None,
            description=request.description if request.HasField("description") else None,
            quantity=request.quantity if request.HasField("quantity") else None,
            price=_unsigned(request.price) if request.HasField("price") else None,
            etag=request.etag,
        )

    def whole_item(self, message: pb.Item, new_id: Callable[[], str]) -> WholeItem:
        """Returns what the message says of an item, which gets a new id when it has none; what is the server's to say
        is left out. Raises ValidationError naming every bad field.
        """
        return WholeItem(
            id=message.id or new_id(),
            name=message.name,
            description=message.description,
            sku=message.sku,
            quantity=message.quantity,
            price=_unsigned(message.price),
            is_active=message.is_active,
            etag=message.etag,
        )

    def change_to_proto(self, change: Change) -> pb.ItemChange:
        """Returns the message that says what happened."""
        return pb.ItemChange(kind=_KINDS[change.kind], item=self.to_proto(change.item), at=to_timestamp(change.at))


_KINDS: Final = {
    ChangeKind.CREATED: pb.ITEM_CHANGE_KIND_CREATED,
    ChangeKind.UPDATED: pb.ITEM_CHANGE_KIND_UPDATED,
    ChangeKind.DELETED: pb.ITEM_CHANGE_KIND_DELETED,
}


def _unsigned(price: float) -> float:
    """A zero without its sign, which IEEE 754 takes for the same number, and JSON shows."""
    return price + 0.0


def _version(etag: str) -> int:
    version = version_of(etag) if etag else 0
    if version is None:
        raise ValidationError("is not the etag of an item", field="etag")
    return version
