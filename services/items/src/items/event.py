"""What others are told of a change."""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Event:
    """One change of one item. It may be told more than once, with the same id; those of one item are told in order."""

    id: str
    item_id: str
    payload: bytes
    """A serialised `meshwork.items.v1.ItemChange`."""
    at: datetime


class EventPublisher(Protocol):
    """Where events go."""

    async def publish(self, event: Event) -> None:
        """Returns when the event is safe where it was to go, and raises whatever it likes when it is not."""
        ...
