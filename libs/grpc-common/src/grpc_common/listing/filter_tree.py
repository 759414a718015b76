"""What a filter says, with every field known and every value of the field's kind."""

from dataclasses import dataclass
from typing import Literal

from grpc_common.listing.field import Field
from grpc_common.listing.literals import Value
from grpc_common.listing.wildcards import Pattern

type Filter = All | Any | Not | Comparison | Like | Present
type Operator = Literal["=", "!=", "<", "<=", ">", ">="]


@dataclass(frozen=True, slots=True)
class All:
    """Every part is true; also when there is none."""

    parts: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class Any:
    """At least one part is true."""

    parts: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """The part is not true."""

    part: Filter


@dataclass(frozen=True, slots=True)
class Comparison:
    """The field's value stands so to this one."""

    field: Field
    operator: Operator
    value: Value


@dataclass(frozen=True, slots=True)
class Like:
    """The field's whole string matches the pattern."""

    field: Field
    pattern: Pattern


@dataclass(frozen=True, slots=True)
class Present:
    """The field's value is not the default of its kind: not empty, not 0, not false."""

    field: Field
