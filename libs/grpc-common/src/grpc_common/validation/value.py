"""Which checks a single value has: that of a field, of an item of a list, of a key or a value of a map."""

from collections.abc import Callable, Iterator
from typing import Any, Final

from google.protobuf.descriptor import FieldDescriptor

from grpc_common.validation.checks import Check
from grpc_common.validation.choice import bool_checks, enum_checks
from grpc_common.validation.constraints import Constraints
from grpc_common.validation.moment import duration_checks, timestamp_checks
from grpc_common.validation.number import number_checks
from grpc_common.validation.octets import bytes_checks
from grpc_common.validation.text import text_checks

_NUMBERS: Final = {
    FieldDescriptor.TYPE_FLOAT: "float",
    FieldDescriptor.TYPE_DOUBLE: "double",
    FieldDescriptor.TYPE_INT32: "int32",
    FieldDescriptor.TYPE_INT64: "int64",
    FieldDescriptor.TYPE_UINT32: "uint32",
    FieldDescriptor.TYPE_UINT64: "uint64",
    FieldDescriptor.TYPE_SINT32: "sint32",
    FieldDescriptor.TYPE_SINT64: "sint64",
    FieldDescriptor.TYPE_FIXED32: "fixed32",
    FieldDescriptor.TYPE_FIXED64: "fixed64",
    FieldDescriptor.TYPE_SFIXED32: "sfixed32",
    FieldDescriptor.TYPE_SFIXED64: "sfixed64",
}
_TIMES: Final = {
    "google.protobuf.Timestamp": ("timestamp", timestamp_checks),
    "google.protobuf.Duration": ("duration", duration_checks),
}
_WRAPPERS: Final = frozenset(
    f"google.protobuf.{kind}Value"
    for kind in ("Bool", "Bytes", "Double", "Float", "Int32", "Int64", "String", "UInt32", "UInt64")
)


def value_checks(constraints: Constraints, field: FieldDescriptor) -> tuple[Check, ...]:
    """Compile the rules of one value of `field`; `constraints` are what is left of its FieldRules.

    Raises:
        UnsupportedConstraintError: a rule is left that is not for such a value, or is not supported.
    """
    checks: tuple[Check, ...] = ()
    if kind := _kind(field):
        name, compile_rules = kind
        if (rules := constraints.take(name)) is not None:
            own = Constraints.of(constraints.where, rules)
            checks = tuple(compile_rules(own))
            own.finish()
    constraints.finish()
    return checks


def _kind(field: FieldDescriptor) -> tuple[str, Callable[[Constraints], Iterator[Check]]] | None:
    """Return the name of the rules for such values and what compiles them."""
    if name := _NUMBERS.get(field.type):
        return name, number_checks
    match field.type:
        case FieldDescriptor.TYPE_STRING:
            return "string", text_checks
        case FieldDescriptor.TYPE_BYTES:
            return "bytes", bytes_checks
        case FieldDescriptor.TYPE_BOOL:
            return "bool", bool_checks
    if (enum := field.enum_type) is not None:
        return "enum", lambda constraints: enum_checks(constraints, enum)
    if (message := field.message_type) is None:
        return None
    if message.full_name in _WRAPPERS and (inner := _kind(message.fields_by_name["value"])):
        name, compile_rules = inner
        return name, lambda constraints: map(_unwrapped, compile_rules(constraints))
    return _TIMES.get(message.full_name)


def _unwrapped(check: Check) -> Check:
    def check_wrapper(wrapper: Any) -> str | None:
        return check(wrapper.value)

    return check_wrapper
