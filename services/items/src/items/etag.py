"""Etags (AIP-154): the version of an item as callers see it."""

import re
from typing import Final

_ETAG: Final = re.compile(r'"(-?[0-9a-f]{1,16})"')


def etag_of(version: int) -> str:
    """Returns the etag, in quotes as HTTP has it (RFC 9110, section 8.8.3)."""
    return f'"{version:x}"'


def version_of(etag: str) -> int | None:
    """Returns the version, or None for an etag that is none of ours, and so no item's."""
    found = _ETAG.fullmatch(etag)
    return int(found[1], 16) if found else None


def matches(etag: str, version: int) -> bool:
    """Says whether an item of that version has the etag; the empty one stands for any."""
    return not etag or version_of(etag) == version
