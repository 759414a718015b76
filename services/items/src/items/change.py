"""What happened to an item."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from items.item import Item


class ChangeKind(StrEnum):
    """What was done."""

    CREATED = "created"
    UPDATED = "updated"
    DELETED = "deleted"


@dataclass(frozen=True, slots=True)
class Change:
    """One change of one item, and the item as it was then; a deleted one as it was at last."""

    kind: ChangeKind
    item: Item
    at: datetime
