"""Ids for what is new."""

import secrets
import time
from uuid import UUID


def new_id() -> str:
    """Return a UUID version 7 (RFC 9562, section 5.7): ids sort by the millisecond they were made in, so that new
    rows lie together at the end of the index.
    """
    milliseconds = time.time_ns() // 1_000_000
    first, last = secrets.randbits(12), secrets.randbits(62)
    return str(UUID(int=milliseconds << 80 | 7 << 76 | first << 64 | 0b10 << 62 | last))
