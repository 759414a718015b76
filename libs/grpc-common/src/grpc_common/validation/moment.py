"""Checks of timestamps and durations."""

import time
from collections.abc import Iterator
from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from grpc_common.validation.bounds import in_range
from grpc_common.validation.checks import Check, holds, one_of
from grpc_common.validation.constraints import Constraints

_NANOS = 1_000_000_000


def duration_checks(constraints: Constraints) -> Iterator[Check]:
    """Compile DurationRules."""
    yield from _checks(constraints)


def timestamp_checks(constraints: Constraints) -> Iterator[Check]:
    """Compile TimestampRules; now is what this machine's clock says as it checks."""
    if constraints.take("lt_now"):
        yield holds(lambda value: _nanos(value) <= time.time_ns(), "must be in the past")
    if constraints.take("gt_now"):
        yield holds(lambda value: _nanos(value) >= time.time_ns(), "must be in the future")
    if (within := constraints.take("within")) is not None:
        reach = _nanos(within)
        yield holds(
            lambda value: abs(_nanos(value) - time.time_ns()) <= reach, f"must be within {_show(within)} of now"
        )
    yield from _checks(constraints)


def _checks(constraints: Constraints) -> Iterator[Check]:
    if bounded := in_range(constraints, _show, _nanos):
        yield bounded
    if (only := constraints.take("const")) is not None:
        exact = _nanos(only)
        yield holds(lambda value: _nanos(value) == exact, f"must be {_show(only)}")
    if allowed := constraints.take("in"):
        those = frozenset(map(_nanos, allowed))
        yield holds(lambda value: _nanos(value) in those, f"must be {one_of(map(_show, allowed))}")
    if refused := constraints.take("not_in"):
        others = frozenset(map(_nanos, refused))
        yield holds(lambda value: _nanos(value) not in others, f"must not be {one_of(map(_show, refused))}")


def _nanos(value: Any) -> int:
    total: int = value.seconds * _NANOS + value.nanos
    return total


def _show(value: Timestamp | Duration) -> str:
    return value.ToJsonString()
