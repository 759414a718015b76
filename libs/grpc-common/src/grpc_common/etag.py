"""Etags (AIP-154): the version of a resource as callers see it."""

import re
from typing import Final

_ETAG: Final = re.compile(r'"(-?[0-9a-f]{1,16})"')


def etag_of(version: int) -> str:
    """Return the etag, in quotes as HTTP has it (RFC 9110, section 8.8.3)."""
    return f'"{version:x}"'


def version_of(etag: str) -> int | None:
    """Return the version, or None for an etag that is none of ours, and so no resource's."""
    found = _ETAG.fullmatch(etag)
    return int(found[1], 16) if found else None


def matches(etag: str, version: int) -> bool:
    """Say whether a resource of that version has the etag; the empty one stands for any."""
    return not etag or version_of(etag) == version
