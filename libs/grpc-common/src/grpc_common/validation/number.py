"""Checks of numbers."""

import math
from collections.abc import Iterator
from typing import Any

from grpc_common.validation.bounds import in_range
from grpc_common.validation.checks import Check, membership
from grpc_common.validation.constraints import Constraints


def number_checks(constraints: Constraints) -> Iterator[Check]:
    """Compile the rules of any kind of integer or floating-point number."""
    bounded = in_range(constraints, _show)
    if constraints.take("finite"):
        yield _finite(bounded)
    elif bounded:
        yield bounded
    yield from membership(constraints, _show)


def _finite(bounded: Check | None) -> Check:
    # One sentence about a number that is none, not one for each of its bounds.
    def check(value: float) -> str | None:
        if not math.isfinite(value):
            return "must be a finite number"
        return bounded(value) if bounded else None

    return check


def _show(number: Any) -> str:
    return f"{number:g}" if isinstance(number, float) and number.is_integer() and abs(number) < 1e6 else str(number)
