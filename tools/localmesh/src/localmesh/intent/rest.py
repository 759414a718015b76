"""What a REST request may say, read from the `google.api.http` options and the messages of the RPCs."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from google.api import annotations_pb2
from google.api.http_pb2 import HttpRule
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor, ServiceDescriptor

from grpc_common.policy import PolicyError

ETAG = "etag"
"""The field of a request that says which version of the resource it is about (AIP-154)."""
EVERYTHING = "*"
"""A body that is the whole request but for what the path binds."""
_VARIABLE = re.compile(r"\{([^=}]+)(?:=([^}]*))?\}")
_MESSAGES_WITH_FIELDS = frozenset({"google.protobuf.Empty"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """One way to call an RPC by REST: what the path binds, and what the body is; all else is in the query."""

    http_method: str
    template: str
    bound: tuple[str, ...]
    """The fields that the path binds, such as `id` or `item.id`."""
    body: str
    """The field that the body is, `*` for all that the path does not bind, or nothing: there is no body."""

    @property
    def segments(self) -> str:
        """The template with `*` or `**` in the place of its variables."""
        return _VARIABLE.sub(lambda found: found[2] or "*", self.template)


@dataclass(frozen=True, slots=True, kw_only=True)
class RestMethod:
    """An RPC that REST has."""

    path: str
    request: str
    """The full name of its message."""
    etag: int | None
    """The number of the request's field that has the etag of the resource, if it has one."""
    bindings: tuple[Binding, ...]
    secret: bool
    """Whether the answer has a secret in it, which nobody on the way may keep."""

    @property
    def templates(self) -> dict[str, str]:
        """Its path templates by HTTP method; several of the same method are joined by ` | `."""
        found: dict[str, list[str]] = {}
        for binding in self.bindings:
            found.setdefault(binding.http_method, []).append(binding.template)
        return {http_method: " | ".join(paths) for http_method, paths in found.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """A field as JSON has it. The type is that of a message of ours, or None: nobody need look inside."""

    name: str
    json_name: str
    type: str | None
    many: bool
    """Whether it may come more than once in a query."""
    keyed: bool
    """Whether it is a map: its keys are data, its values are of the type."""


def rest_methods(services: Iterable[ServiceDescriptor]) -> Iterator[RestMethod]:
    """All RPCs that REST has; raises `PolicyError` for one that could not be told from another or breaks the rules."""
    for service in services:
        for method in service.methods:
            if bindings := tuple(_bindings(method)):
                request: Descriptor = method.input_type
                etag = request.fields_by_name.get(ETAG)
                yield RestMethod(
                    path=f"/{service.full_name}/{method.name}",
                    request=request.full_name,
                    etag=etag.number if etag is not None and _is_text(etag) else None,
                    bindings=bindings,
                    secret=_has_secret(method.output_type, frozenset()),
                )


def messages(services: Iterable[ServiceDescriptor]) -> dict[str, tuple[Field, ...]]:
    """The messages that a REST request may contain, by their full names."""
    found: dict[str, tuple[Field, ...]] = {}

    def add(message: Descriptor) -> None:
        if message.full_name in found:
            return
        found[message.full_name] = ()
        found[message.full_name] = tuple(map(field, message.fields))

    def field(each: FieldDescriptor) -> Field:
        inner = each.message_type
        keyed = inner is not None and bool(inner.GetOptions().map_entry)
        if inner is not None and keyed:
            inner = inner.fields_by_name["value"].message_type
        known = inner if inner is not None and _has_fields(inner) else None
        if known is not None:
            add(known)
        return Field(
            name=each.name,
            json_name=each.json_name,
            type=known.full_name if known is not None else None,
            many=each.is_repeated,
            keyed=keyed,
        )

    for service in services:
        for method in service.methods:
            if any(_bindings(method)):
                add(method.input_type)
    return found


def _has_fields(message: Descriptor) -> bool:
    """Whether its JSON is an object of its fields: the well-known types have JSON of their own."""
    return not message.full_name.startswith("google.protobuf.") or message.full_name in _MESSAGES_WITH_FIELDS


def _has_secret(message: Descriptor, outer: frozenset[str]) -> bool:
    if message.full_name in outer:
        return False
    outer |= {message.full_name}
    return any(
        field.GetOptions().debug_redact or (field.message_type is not None and _has_secret(field.message_type, outer))
        for field in message.fields
    )


def _is_text(field: FieldDescriptor) -> bool:
    return field.type == FieldDescriptor.TYPE_STRING and not field.is_repeated


def _bindings(method: MethodDescriptor) -> Iterator[Binding]:
    options = method.GetOptions()
    if not options.HasExtension(annotations_pb2.http):
        return
    rule = options.Extensions[annotations_pb2.http]
    for each in (rule, *rule.additional_bindings):
        http_method, template = _pattern(each)
        bound = tuple(found[1].strip() for found in _VARIABLE.finditer(template))
        body = str(each.body)
        if body not in ("", EVERYTHING) and body not in method.input_type.fields_by_name:
            raise PolicyError(f"{method.full_name}: google.api.http has the body {body!r}, which is no field")
        yield Binding(http_method=http_method, template=template, bound=bound, body=body)


def _pattern(rule: HttpRule) -> tuple[str, str]:
    kind = rule.WhichOneof("pattern")
    if kind == "custom":
        return str(rule.custom.kind), str(rule.custom.path)
    return str(kind).upper(), str(getattr(rule, str(kind)))
