"""What one field of a message must be: present or not, one value, a list or a map."""

import json
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Final, Protocol

from buf.validate import validate_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from grpc_common.errors import FieldViolation
from grpc_common.validation.bounds import in_size
from grpc_common.validation.checks import Check, holds
from grpc_common.validation.constraints import Constraints
from grpc_common.validation.value import value_checks

type Rule = Callable[[Message], Iterable[FieldViolation]]

MISSING: Final = "must be given"
_KEY_SHOWN: Final = 64


class Nested(Protocol):
    """What says all that is wrong with a message within a message."""

    def violations(self, message: Message) -> Iterable[FieldViolation]:
        """Return the violations, their paths starting at `message`."""


type NestedOf = Callable[[Descriptor], Nested | None]


@dataclass(frozen=True, slots=True)
class _Value:
    """What a single value must be."""

    checks: tuple[Check, ...]
    nested: Nested | None
    skips_zero: bool = False

    def __bool__(self) -> bool:
        return bool(self.checks or self.nested)

    def violations(self, path: str, value: Any) -> Iterator[FieldViolation]:
        if self.skips_zero and _is_zero(value):
            return
        for check in self.checks:
            if (fault := check(value)) is not None:
                yield FieldViolation(path, fault)
        if self.nested:
            for violation in self.nested.violations(value):
                yield FieldViolation(f"{path}.{violation.field}", violation.message)


def field_rule(field: FieldDescriptor, nested_of: NestedOf) -> Rule | None:
    """Compile the rules of `field`; None when there are none.

    Raises:
        UnsupportedConstraintError: a rule is not for such a field, or is not supported.
    """
    options: Any = field.GetOptions()
    constraints = Constraints.of(field.full_name, options.Extensions[validate_pb2.field])
    ignore = constraints.take("ignore", validate_pb2.IGNORE_UNSPECIFIED)
    if ignore == validate_pb2.IGNORE_ALWAYS:
        return None
    required = bool(constraints.take("required"))
    skips_zero = ignore == validate_pb2.IGNORE_IF_ZERO_VALUE
    entry = field.message_type
    if entry is not None and entry.GetOptions().map_entry:
        return _many(field.name, required, skips_zero, *_map_walk(constraints, field.name, entry, nested_of))
    if field.is_repeated:
        return _many(field.name, required, skips_zero, *_list_walk(constraints, field, nested_of))
    value = _value(constraints, field, nested_of)
    if field.has_presence:
        return _present(field.name, required, value)
    return _implicit(field.name, required, skips_zero, value)


def _value(
    constraints: Constraints, field: FieldDescriptor, nested_of: NestedOf, *, skips_zero: bool = False
) -> _Value:
    nested = nested_of(field.message_type) if field.message_type is not None else None
    return _Value(value_checks(constraints, field), nested, skips_zero)


def _element(where: str, rules: Message | None, field: FieldDescriptor, nested_of: NestedOf) -> _Value:
    constraints = Constraints.of(where, rules if rules is not None else validate_pb2.FieldRules())
    ignore = constraints.take("ignore", validate_pb2.IGNORE_UNSPECIFIED)
    if ignore == validate_pb2.IGNORE_ALWAYS:
        return _Value((), None)
    return _value(constraints, field, nested_of, skips_zero=ignore == validate_pb2.IGNORE_IF_ZERO_VALUE)


def _present(name: str, required: bool, expected: _Value) -> Rule | None:
    """A field that tells "not set" from zero: its rules are for when it is set."""
    if not (required or expected):
        return None
    missing = (FieldViolation(name, MISSING),) if required else ()
    read = attrgetter(name)

    def rule(message: Message) -> Iterable[FieldViolation]:
        return expected.violations(name, read(message)) if message.HasField(name) else missing

    return rule


def _implicit(name: str, required: bool, skips_zero: bool, expected: _Value) -> Rule | None:
    """A field that is zero when nobody set it: its rules are for zero too, and required is not zero."""
    read, checks = attrgetter(name), expected.checks
    if not (required or checks):
        return None
    missing = (FieldViolation(name, MISSING),) if required else ()

    def rule(message: Message) -> Iterable[FieldViolation]:
        value = read(message)
        if not value and (missing or skips_zero) and _is_zero(value):
            return missing
        for check in checks:
            if check(value) is not None:
                return expected.violations(name, value)
        return ()

    return rule


type _Walk = Callable[[Any], Iterator[FieldViolation]]


def _many(name: str, required: bool, skips_zero: bool, sizes: tuple[Check, ...], walk: _Walk | None) -> Rule | None:
    if not (required or sizes or walk):
        return None
    read = attrgetter(name)

    def rule(message: Message) -> Iterator[FieldViolation]:
        values = read(message)
        if not values and (required or skips_zero):
            if required:
                yield FieldViolation(name, MISSING)
            return
        for check in sizes:
            if (fault := check(values)) is not None:
                yield FieldViolation(name, fault)
        if walk:
            yield from walk(values)

    return rule


def _list_walk(
    constraints: Constraints, field: FieldDescriptor, nested_of: NestedOf
) -> tuple[tuple[Check, ...], _Walk | None]:
    own = Constraints.of(field.full_name, constraints.take("repeated", validate_pb2.RepeatedRules()))
    size = in_size(own.take("min_items", 0), own.take("max_items"), "items long")
    sizes = [size] if size else []
    if own.take("unique"):
        if field.message_type is not None:
            raise own.refusal("unique for messages, which is not supported")
        sizes.append(holds(lambda values: len(set(values)) == len(values), "must not have the same item twice"))
    expected = _element(f"{field.full_name} (its items)", own.take("items"), field, nested_of)
    own.finish()
    constraints.finish()
    name = field.name

    def walk(values: Any) -> Iterator[FieldViolation]:
        for index, value in enumerate(values):
            yield from expected.violations(f"{name}[{index}]", value)

    return tuple(sizes), walk if expected else None


def _map_walk(
    constraints: Constraints, name: str, pair: Descriptor, nested_of: NestedOf
) -> tuple[tuple[Check, ...], _Walk | None]:
    where = constraints.where
    own = Constraints.of(where, constraints.take("map", validate_pb2.MapRules()))
    size = in_size(own.take("min_pairs", 0), own.take("max_pairs"), "pairs long")
    entry = pair.fields_by_name
    keys = _element(f"{where} (its keys)", own.take("keys"), entry["key"], nested_of)
    expected = _element(f"{where} (its values)", own.take("values"), entry["value"], nested_of)
    own.finish()
    constraints.finish()

    def walk(pairs: Any) -> Iterator[FieldViolation]:
        for key in pairs:
            path = f"{name}[{_shown(key)}]"
            for violation in keys.violations(path, key):
                yield FieldViolation(path, f"its key {violation.message}")
            yield from expected.violations(path, pairs[key])

    return (size,) if size else (), walk if keys or expected else None


def _is_zero(value: Any) -> bool:
    # Negative zero is sent like any other number: only positive zero may mean that nobody set the field.
    return not value and not (isinstance(value, float) and math.copysign(1, value) < 0)


def _shown(key: Any) -> str:
    """Write a key of a map as the path shows it: short, and in plain ASCII whatever the caller put into it."""
    return json.dumps(key if not isinstance(key, str) or len(key) <= _KEY_SHOWN else f"{key[:_KEY_SHOWN]}...")
