"""Columns that hold the same, and sort alike, in both databases."""

from datetime import UTC, datetime
from typing import override

from sqlalchemy import DateTime, Dialect, String
from sqlalchemy.types import TypeDecorator


class UtcDateTime(TypeDecorator[datetime]):
    """An aware time in UTC, exact to the microsecond, also where the database knows no time zones (SQLite)."""

    impl = DateTime(timezone=True)
    cache_ok = True

    @override
    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Takes the time to UTC; a naive one would mean another moment on every machine."""
        if value is not None and value.tzinfo is None:
            raise ValueError("a time without a time zone")
        return value and value.astimezone(UTC)

    @override
    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Gives back the zone that SQLite leaves out."""
        return value and (value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC))


def code(length: int) -> String:
    """A text that is compared byte by byte: PostgreSQL then sorts it as SQLite does, and fastest."""
    return String(length).with_variant(String(length, collation="C"), "postgresql")


def can_hold(value: str) -> bool:
    """Say whether both databases can hold the text: PostgreSQL has no NUL, and half of a surrogate pair is in no
    encoding. What nobody can keep needs not be looked for, where it would only be an error.
    """
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in value
