"""Mapping between a service's own types and its protobuf messages."""

from collections.abc import Iterable
from typing import Protocol


class ProtobufMapper[Entity, Proto](Protocol):
    """What turns an entity into a message and back without loss.

    A mapper that names this class as its parent writes `to_proto` and `from_proto` and is given the list forms.
    """

    def to_proto(self, entity: Entity) -> Proto:
        """Return the message that says all that `entity` says."""
        ...

    def from_proto(self, proto: Proto) -> Entity:
        """Return the entity; a value it cannot hold raises ValidationError with the field named."""
        ...

    def to_proto_list(self, entities: Iterable[Entity]) -> list[Proto]:
        """Map each entity, in order."""
        return [self.to_proto(entity) for entity in entities]

    def from_proto_list(self, protos: Iterable[Proto]) -> list[Entity]:
        """Map each message, in order."""
        return [self.from_proto(proto) for proto in protos]
