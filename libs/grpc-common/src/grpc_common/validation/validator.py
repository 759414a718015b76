"""From the descriptor of a message to what says everything that is wrong with such a message.

Constraints are the standard `buf.validate` options (https://protovalidate.com), compiled once per type into plain
closures. A part of the standard is supported; a proto that asks for more, CEL expressions above all, is refused when it
is compiled, so that no constraint is ever overlooked.
"""

from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any, Final

from buf.validate import validate_pb2
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import Descriptor, OneofDescriptor
from google.protobuf.message import Message

from grpc_common.errors import FieldViolation
from grpc_common.validation.constraints import Constraints
from grpc_common.validation.field import Rule, field_rule

MOST_VIOLATIONS: Final = 100


class Validator:
    """What messages of one type must be."""

    __slots__ = ("_rules",)

    def __init__(self, message: Descriptor, known: "dict[str, Validator] | None" = None) -> None:
        known = known if known is not None else {}
        known[message.full_name] = self  # a message may hold itself

        def nested_of(inner: Descriptor) -> Validator | None:
            return (known.get(inner.full_name) or Validator(inner, known)) if _is_constrained(inner) else None

        _refuse_message_rules(message)
        fields = (field_rule(field, nested_of) for field in message.fields)
        oneofs = (_oneof_rule(oneof) for oneof in message.oneofs)
        self._rules = tuple(rule for rule in (*fields, *oneofs) if rule)

    def violations(self, message: Message) -> list[FieldViolation]:
        """Return all that is wrong with `message`, 100 violations at most; paths start at its fields (AIP-193)."""
        found: list[FieldViolation] = []
        for rule in self._rules:
            for violation in rule(message):
                found.append(violation)
                if len(found) == MOST_VIOLATIONS:
                    return found
        return found


@cache
def validator_of(message: Descriptor) -> Validator | None:
    """Return what messages of this type must be, themselves and all they hold; None when anything will do.

    Raises:
        UnsupportedConstraintError: naming the field and the constraint that would not be enforced.
    """
    return Validator(message) if _is_constrained(message) else None


def request_validator(path: str) -> Validator | None:
    """Return what requests of "/package.Service/Name" must be; None when anything will do or nobody knows the method.

    Raises:
        UnsupportedConstraintError: a constraint of the request would not be enforced.
    """
    service, _, name = path.removeprefix("/").rpartition("/")
    try:
        method = descriptor_pool.Default().FindServiceByName(service).methods_by_name[name]
    except KeyError:
        return None
    return validator_of(method.input_type)


def check_constraints(services: Iterable[str]) -> None:
    """Compile the constraints of all requests of `services` by full name, so that a server finds out as it starts.

    Raises:
        UnsupportedConstraintError: a constraint of a request would not be enforced.
    """
    for name in services:
        try:
            service = descriptor_pool.Default().FindServiceByName(name)
        except KeyError:
            continue
        for method in service.methods:
            validator_of(method.input_type)


@cache
def _is_constrained(message: Descriptor) -> bool:
    """Whether there are rules in `message` or in anything it may hold."""
    return any(_has_own_rules(reached) for reached in _reached(message))


def _reached(message: Descriptor) -> Iterator[Descriptor]:
    seen, waiting = {message.full_name}, [message]
    while waiting:
        reached = waiting.pop()
        yield reached
        for field in reached.fields:
            if field.message_type is not None and field.message_type.full_name not in seen:
                seen.add(field.message_type.full_name)
                waiting.append(field.message_type)


def _has_own_rules(message: Descriptor) -> bool:
    rules: Iterable[tuple[Any, Any]] = (
        (message, validate_pb2.message),
        *((field, validate_pb2.field) for field in message.fields),
        *((oneof, validate_pb2.oneof) for oneof in message.oneofs),
    )
    return any(descriptor.GetOptions().HasExtension(extension) for descriptor, extension in rules)


def _refuse_message_rules(message: Descriptor) -> None:
    options: Any = message.GetOptions()
    Constraints.of(message.full_name, options.Extensions[validate_pb2.message]).finish()


def _oneof_rule(oneof: OneofDescriptor) -> Rule | None:
    options: Any = oneof.GetOptions()
    constraints = Constraints.of(oneof.full_name, options.Extensions[validate_pb2.oneof])
    required = constraints.take("required")
    constraints.finish()
    if not required:
        return None
    name = oneof.name
    missing = (FieldViolation(name, f"one of {', '.join(field.name for field in oneof.fields)} must be given"),)

    def rule(message: Message) -> Iterable[FieldViolation]:
        return () if message.WhichOneof(name) else missing

    return rule
