"""The fields by which a list may be filtered and sorted."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, assert_never

from sqlalchemy import BigInteger, Boolean, ColumnElement, Double, String
from sqlalchemy.types import TypeEngine


class Kind(StrEnum):
    """What the values of a field are, in a caller's words."""

    TEXT = "a string"
    INTEGER = "an integer from -2^63 to 2^63-1, such as 42"
    NUMBER = "a number, such as 9.5 or 2.997e9"
    BOOLEAN = "true or false"
    TIMESTAMP = "an RFC 3339 time no finer than nanoseconds, such as 2012-04-21T11:30:00-04:00"


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """A field of the listed resource, under the name that callers use (`address.city`), and the column it stands in.

    No value of the column is NULL. Times are aware `datetime`s, exact to the microsecond, numbers are finite. A string
    column is best declared with the collation "C" where the database has another one: then it sorts by code points,
    alike everywhere.
    """

    name: str
    column: ColumnElement[Any]
    kind: Kind
    searched: bool = False
    """Whether a bare word of a filter is looked for in it; a string field."""
    sortable: bool = True
    """Whether order_by may name it; a string field needs a longest length then (`String(200)`)."""
    unique: bool = False
    """Whether no two rows have the same value: what comes after it in order_by decides nothing."""

    def __post_init__(self) -> None:
        if self.searched and self.kind is not Kind.TEXT:
            raise ValueError(f"{self.name} is no string field: it cannot be searched for words")
        if self.sortable and self.kind is Kind.TEXT and self.longest is None:
            raise ValueError(
                f"{self.name} has no longest length: it cannot be sortable, its value must fit a page token"
            )

    @property
    def longest(self) -> int | None:
        """The most characters (code points) its strings have, or None."""
        length: int | None = getattr(self.column.type, "length", None)
        return length

    @property
    def bound_as(self) -> TypeEngine[Any]:
        """The type that values are bound with: wide enough for every literal, so that none overflows or is cut."""
        match self.kind:
            case Kind.TEXT:
                return String()
            case Kind.INTEGER:
                return BigInteger()
            case Kind.NUMBER:
                return Double()
            case Kind.BOOLEAN:
                return Boolean()
            case Kind.TIMESTAMP:
                return self.column.type
        assert_never(self.kind)
