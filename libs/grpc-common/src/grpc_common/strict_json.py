"""JSON that means one thing only: for documents that decide who somebody is."""

import json
from typing import Any, Never


def load_object(data: bytes) -> dict[str, Any]:
    """Parse one JSON object; raise ValueError for anything two readers could read differently (RFC 8259, RFC 7493).

    That is: another encoding than UTF-8, a name given twice, NaN and Infinity, nesting without end.
    """
    try:
        value = json.loads(data.decode(), object_pairs_hook=_unique, parse_constant=_no_number)
    except RecursionError:
        raise ValueError("the JSON is nested too deeply") from None
    if not isinstance(value, dict):
        raise ValueError("the JSON is not an object")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("the JSON names a member twice")
    return found


def _no_number(name: str) -> Never:
    raise ValueError(f"{name} is not JSON")
