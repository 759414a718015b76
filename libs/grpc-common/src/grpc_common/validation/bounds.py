"""Checks of how large a value is, and of how long or how many something is."""

import math
from collections.abc import Callable
from operator import ge, gt, le, lt
from typing import Any, Final, NamedTuple

from grpc_common.validation.checks import Check, Show
from grpc_common.validation.constraints import Constraints

type Key = Callable[[Any], Any]
type Compare = Callable[[Any, Any], bool]

_ABOVE: Final[dict[str, tuple[Compare, str]]] = {"gt": (gt, "more than {}"), "gte": (ge, "{} or more")}
_BELOW: Final[dict[str, tuple[Compare, str]]] = {"lt": (lt, "less than {}"), "lte": (le, "{} or less")}


class _Bound(NamedTuple):
    compare: Compare
    value: Any
    words: str


def in_range(constraints: Constraints, show: Show = str, key: Key | None = None) -> Check | None:
    """Check `gt` or `gte`, and `lt` or `lte`; an upper bound below the lower one means: outside of the two.

    `key` turns a bound, and later a value, into what can be compared. NaN is in no range.
    """
    lower = constraints.take_any(*_ABOVE)
    upper = constraints.take_any(*_BELOW)
    low = _bound(_ABOVE, lower, show, key) if lower else None
    high = _bound(_BELOW, upper, show, key) if upper else None
    if low and high:
        check = _outside(low, high) if high.value < low.value else _inside(low, high)
    elif one := low or high:
        check = _one_sided(one)
    else:
        return None
    return (lambda value: check(key(value))) if key else check


def in_size(least: int, most: int | None, unit: str, measure: Callable[[Any], int] = len) -> Check | None:
    """Check that `measure` of a value, in `unit`, is at least `least` and at most `most`."""
    if not least and most is None:
        return None
    if most is None:
        words = f"at least {least}"
    elif least == most:
        words = f"exactly {most}"
    else:
        words = f"{least} to {most}" if least else f"at most {most}"
    limit = math.inf if most is None else most

    def check(value: Any) -> str | None:
        return None if least <= measure(value) <= limit else f"must be {words} {unit}, not {measure(value)}"

    return check


def size_limits(constraints: Constraints, exact: str, least: str, most: str) -> tuple[int, int | None]:
    """Take the limits of a size: the least it may be and, if any, the most."""
    lower, upper = constraints.take(least, 0), constraints.take(most)
    if (size := constraints.take(exact)) is None:
        return lower, upper
    return max(lower, size), size if upper is None else min(upper, size)


def _bound(kinds: dict[str, tuple[Compare, str]], bound: tuple[str, Any], show: Show, key: Key | None) -> _Bound:
    name, value = bound
    compare, words = kinds[name]
    return _Bound(compare, key(value) if key else value, words.format(show(value)))


def _one_sided(bound: _Bound) -> Check:
    compare, limit, fault = bound.compare, bound.value, f"must be {bound.words}"
    return lambda value: None if compare(value, limit) else fault


def _inside(low: _Bound, high: _Bound) -> Check:
    fault = f"must be {low.words} and {high.words}"
    return lambda value: None if low.compare(value, low.value) and high.compare(value, high.value) else fault


def _outside(low: _Bound, high: _Bound) -> Check:
    fault = f"must be {low.words} or {high.words}"
    return lambda value: None if low.compare(value, low.value) or high.compare(value, high.value) else fault
