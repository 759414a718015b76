"""Checks of bytes."""

from collections.abc import Iterator

from grpc_common.validation.bounds import in_size, size_limits
from grpc_common.validation.checks import Check, holds, membership
from grpc_common.validation.constraints import Constraints


def bytes_checks(constraints: Constraints) -> Iterator[Check]:
    """Compile BytesRules."""
    if size := in_size(*size_limits(constraints, "len", "min_len", "max_len"), "bytes long"):
        yield size
    if prefix := constraints.take("prefix"):
        yield holds(lambda value: value.startswith(prefix), f"must start with the bytes {prefix.hex()}")
    if suffix := constraints.take("suffix"):
        yield holds(lambda value: value.endswith(suffix), f"must end with the bytes {suffix.hex()}")
    if part := constraints.take("contains"):
        yield holds(lambda value: part in value, f"must contain the bytes {part.hex()}")
    yield from membership(constraints, bytes.hex)
