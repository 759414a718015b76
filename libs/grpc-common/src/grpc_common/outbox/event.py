"""What others are told."""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Event:
    """What happened to one subject. It may be told more than once, with the same id; those of one subject are told in
    order, each when the one before it was. Events that need no order among each other need subjects of their own.
    """

    id: str
    """At most ID_MAX characters; `new_id()` gives one."""
    subject: str
    """At most SUBJECT_MAX characters."""
    payload: bytes
    """A serialised message."""
    at: datetime


class EventPublisher(Protocol):
    """Where events go."""

    async def publish(self, event: Event) -> None:
        """Returns when the event is safe where it was to go, and raises whatever it likes when it is not."""
        ...
