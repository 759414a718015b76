"""Checks of one value that every kind of value has."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from grpc_common.validation.constraints import Constraints

type Check = Callable[[Any], str | None]
"""Says what is wrong with a value, as the rest of a sentence ("must be ..."), or None. It never repeats the value."""

type Show = Callable[[Any], str]

_MOST_SHOWN: Final = 20


def membership(constraints: Constraints, show: Show = str) -> Iterator[Check]:
    """Check `const`, `in` and `not_in`; `show` writes one allowed value."""
    if (only := constraints.take("const")) is not None:
        yield _const(only, f"must be {show(only)}")
    if allowed := constraints.take("in"):
        yield _in(frozenset(allowed), f"must be {one_of(map(show, allowed))}")
    if refused := constraints.take("not_in"):
        yield _not_in(frozenset(refused), f"must not be {one_of(map(show, refused))}")


def holds(is_right: Callable[[Any], bool], fault: str) -> Check:
    """Check whatever `is_right` says."""
    return lambda value: None if is_right(value) else fault


def one_of(names: Iterable[str]) -> str:
    """Write "one of a, b", however many there are."""
    shown = list(names)
    if len(shown) == 1:
        return shown[0]
    more = ", ..." if len(shown) > _MOST_SHOWN else ""
    return f"one of {', '.join(shown[:_MOST_SHOWN])}{more}"


def quoted(text: str) -> str:
    """Write a text of the proto's author within a sentence."""
    return f"'{text}'"


def _const(only: Any, fault: str) -> Check:
    return lambda value: None if value == only else fault


def _in(allowed: frozenset[Any], fault: str) -> Check:
    return lambda value: None if value in allowed else fault


def _not_in(refused: frozenset[Any], fault: str) -> Check:
    return lambda value: fault if value in refused else None
