"""Filters as SQL: every value is a bound parameter, every column one that the service declared."""

import operator
from collections.abc import Callable
from typing import Any, Final, assert_never

from sqlalchemy import ColumnElement, and_, literal, not_, or_, true

from grpc_common.listing import filter_tree
from grpc_common.listing.field import Field, Kind
from grpc_common.listing.filter_tree import Comparison, Filter, Like, Not, Present
from grpc_common.listing.literals import Value
from grpc_common.listing.wildcards import Matches

_COMPARE: Final[dict[filter_tree.Operator, Callable[[Any, Any], Any]]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def condition(filter_: Filter) -> ColumnElement[bool]:
    """Return the filter as a condition on the fields' columns."""
    match filter_:
        case filter_tree.All(parts):
            return and_(true(), *map(condition, parts))
        case filter_tree.Any(parts):
            return or_(*map(condition, parts))
        case Not(part):
            return not_(condition(part))
        case Comparison(field, compare, value):
            found: ColumnElement[bool] = _COMPARE[compare](field.column, bound(field, value))
            return found
        case Like(field, pattern):
            return Matches(field.column, pattern)
        case Present(field):
            return _present(field)
    assert_never(filter_)


def bound(field: Field, value: Value) -> ColumnElement[Any]:
    """Return the value as a parameter to compare the field's column with."""
    return literal(value, field.bound_as)


def _present(field: Field) -> ColumnElement[bool]:
    match field.kind:
        case Kind.TEXT:
            return field.column != bound(field, "")
        case Kind.INTEGER | Kind.NUMBER:
            return field.column != bound(field, 0)
        case Kind.BOOLEAN:
            return field.column == bound(field, True)
        case Kind.TIMESTAMP:
            return field.column.is_not(None)
    assert_never(field.kind)
