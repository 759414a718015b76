"""Checks of strings."""

from collections.abc import Iterator
from typing import Final

from grpc_common.validation.bounds import in_size, size_limits
from grpc_common.validation.checks import Check, holds, membership, quoted
from grpc_common.validation.constraints import Constraints, UnsupportedConstraintError
from grpc_common.validation.formats import FORMATS
from grpc_common.validation.pattern import PatternError, compile_pattern

# A message is 4 MiB at most unless a server says otherwise.
LONGEST: Final = 4 * 1024 * 1024


def text_checks(constraints: Constraints) -> Iterator[Check]:
    """Compile StringRules. Lengths are counted in code points, and in bytes of UTF-8 where the rule says so."""
    shortest, longest = size_limits(constraints, "len", "min_len", "max_len")
    if size := in_size(shortest, longest, "characters long"):
        yield size
    least, most = size_limits(constraints, "len_bytes", "min_bytes", "max_bytes")
    if size := in_size(least, most, "bytes of UTF-8 long", lambda value: len(value.encode())):
        yield size
    if (pattern := constraints.take("pattern")) is not None:
        yield _pattern(constraints, pattern, min(limit for limit in (longest, most, LONGEST) if limit is not None))
    if prefix := constraints.take("prefix"):
        yield holds(lambda value: value.startswith(prefix), f"must start with {quoted(prefix)}")
    if suffix := constraints.take("suffix"):
        yield holds(lambda value: value.endswith(suffix), f"must end with {quoted(suffix)}")
    if part := constraints.take("contains"):
        yield holds(lambda value: part in value, f"must contain {quoted(part)}")
    if (absent := constraints.take("not_contains")) is not None:
        yield holds(lambda value: absent not in value, f"must not contain {quoted(absent)}")
    for name, (is_one, words) in FORMATS.items():
        if constraints.take(name):
            yield holds(is_one, f"must be {words}")
    yield from membership(constraints, quoted)


def _pattern(constraints: Constraints, pattern: str, longest: int) -> Check:
    try:
        compiled = compile_pattern(pattern, longest)
    except PatternError as error:
        raise UnsupportedConstraintError(f"{constraints.where} has the pattern {pattern!r}: {error}") from error
    search, fault = compiled.search, compiled.fault

    def check(value: str) -> str | None:
        # The time a match takes is bounded for texts as long as they may be; a longer one is refused for its length.
        return None if len(value) > longest or search(value) else fault

    return check
