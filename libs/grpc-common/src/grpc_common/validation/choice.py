"""Checks of enums and of true and false."""

from collections.abc import Iterator

from google.protobuf.descriptor import EnumDescriptor

from grpc_common.validation.checks import Check, holds, membership, one_of
from grpc_common.validation.constraints import Constraints


def bool_checks(constraints: Constraints) -> Iterator[Check]:
    """Compile BoolRules."""
    yield from membership(constraints, lambda value: str(value).lower())


def enum_checks(constraints: Constraints, enum: EnumDescriptor) -> Iterator[Check]:
    """Compile EnumRules; values are the numbers, their names are what is shown."""
    if constraints.take("defined_only"):
        known = frozenset(enum.values_by_number)
        yield holds(known.__contains__, f"must be {one_of(value.name for value in enum.values)}")

    def name(number: int) -> str:
        value = enum.values_by_number.get(number)
        return value.name if value else str(number)

    yield from membership(constraints, name)
