"""Items between the domain and the wire."""

from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp

from grpc_common.errors import ValidationError
from grpc_common.mappers import ProtobufMapper
from items.item import Item, ItemChange, NewItem
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
            price=entity.price,
            is_active=entity.is_active,
            created_at=_timestamp(entity.created_at),
            updated_at=_timestamp(entity.updated_at),
        )

    def from_proto(self, proto: pb.Item) -> Item:
        """Returns the item; a time beyond the years 1 to 9999 raises ValidationError. What is finer than a microsecond
        is cut off.
        """
        return Item(
            id=proto.id,
            name=proto.name,
            description=proto.description,
            sku=proto.sku,
            quantity=proto.quantity,
            price=proto.price,
            is_active=proto.is_active,
            created_at=_time("created_at", proto.created_at),
            updated_at=_time("updated_at", proto.updated_at),
        )

    def new_item(self, request: pb.CreateItemRequest) -> NewItem:
        """Returns the item to be, or raises ValidationError naming every bad field."""
        return NewItem(
            name=request.name,
            description=request.description,
            sku=request.sku,
            quantity=request.quantity,
            price=request.price,
        )

    def change(self, request: pb.UpdateItemRequest) -> ItemChange:
        """Returns the fields that are present, or raises ValidationError naming every bad one."""
        return ItemChange(
            id=request.id,
            name=request.name if request.HasField("name") else None,
            description=request.description if request.HasField("description") else None,
            quantity=request.quantity if request.HasField("quantity") else None,
            price=request.price if request.HasField("price") else None,
        )


def _timestamp(time: datetime) -> Timestamp:
    timestamp = Timestamp()
    timestamp.FromDatetime(time)
    return timestamp


def _time(field: str, timestamp: Timestamp) -> datetime:
    try:
        return timestamp.ToDatetime(UTC)
    except (ValueError, OverflowError) as error:
        raise ValidationError("must be a time of the years 1 to 9999", field=field) from error
