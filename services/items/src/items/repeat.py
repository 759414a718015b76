"""How a repeated request is known (AIP-155)."""

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Self

from items.item import NewItem


@dataclass(frozen=True, slots=True)
class RequestMark:
    """Who asked under which id, and what for, as hashes: the ids of others tell a caller nothing."""

    key: bytes
    body: bytes

    @classmethod
    def of(cls, request_id: str, caller: tuple[str, str], item: NewItem) -> Self:
        """Returns the mark of a request to create `item`; `caller` is the issuer and the subject of the token."""
        return cls(_hash([*caller, request_id.lower()]), _hash(asdict(item)))


def _hash(value: object) -> bytes:
    return hashlib.sha256(json.dumps(value).encode()).digest()
