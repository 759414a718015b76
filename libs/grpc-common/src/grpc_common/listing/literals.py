"""The values that are written in a filter, as values of a field's kind."""

import re
from datetime import UTC, datetime, timedelta, timezone
from math import isinf
from typing import Final, Never

from grpc_common.listing.field import Kind

type Value = str | int | float | bool | datetime

_INTEGER: Final = re.compile(r"[+-]?[0-9]+")
_NUMBER: Final = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
_TIMESTAMP: Final = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(?:\.(\d{1,9})0*)?(?:[Zz]|([+-])(\d\d):(\d\d))", re.ASCII
)


def read_literal(kind: Kind, text: str) -> Value:
    """Return the value, of a time its microsecond; raise ValueError when `text` is no value of this kind."""
    match kind:
        case Kind.TEXT:
            return text
        case Kind.INTEGER:
            return _integer(text)
        case Kind.NUMBER:
            return _number(text)
        case Kind.BOOLEAN:
            return {"true": True, "false": False}[text] if text in {"true", "false"} else _refuse(kind)
        case Kind.TIMESTAMP:
            return read_time(text)[0]


def read_time(text: str) -> tuple[datetime, bool]:
    """Return the microsecond that a time falls into, and whether it is later than that begins; raise ValueError where
    `text` is no time, or beyond the years 1 to 9999.
    """
    found = _TIMESTAMP.fullmatch(text)
    if found is None:
        return _refuse(Kind.TIMESTAMP)
    *numbers, fraction, sign, hours, minutes = found.groups()
    year, month, day, hour, minute, second = map(int, numbers)
    offset = timedelta(hours=int(hours or 0), minutes=int(minutes or 0))
    microsecond, nanoseconds = divmod(int((fraction or "").ljust(9, "0")), 1_000)
    try:
        zone = timezone(-offset if sign == "-" else offset)
        local = datetime(year, month, day, hour, minute, second, microsecond, zone)
        return local.astimezone(UTC), nanoseconds > 0
    except (ValueError, OverflowError):
        return _refuse(Kind.TIMESTAMP)


def _integer(text: str) -> int:
    value = int(text) if _INTEGER.fullmatch(text) else _refuse(Kind.INTEGER)
    return value if -(2**63) <= value < 2**63 else _refuse(Kind.INTEGER)


def _number(text: str) -> float:
    value = float(text) if _NUMBER.fullmatch(text) else _refuse(Kind.NUMBER)
    return _refuse(Kind.NUMBER) if isinf(value) else value


def _refuse(kind: Kind) -> Never:
    raise ValueError(f"not {kind}")
