"""What of a message may be shown in a log: its fields by name, without secrets, and not too much of it."""

from collections.abc import Iterable
from typing import Any, Final

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from grpc_common.redaction import MAX_DEPTH, REDACTED, is_secret, redact_text

MAX_FIELD: Final = 256
"""Characters of one field."""


class MessageView:
    """Shows a message in about `room` characters; what does not fit is left out and said so.

    A field is secret when its name says so or its declaration does: `[debug_redact = true]`.
    """

    def __init__(self, room: int = 2048) -> None:
        self._room = room

    def of(self, message: Any) -> Any:
        """Return `message` as plain JSON types."""
        return self._show(message, 0) if isinstance(message, Message) else _opaque(message)

    def _show(self, message: Message, depth: int) -> Any:
        if depth > MAX_DEPTH:
            return "…"
        shown: dict[str, Any] = {}
        for field, value in message.ListFields():
            if self._room <= 0:
                shown["…"] = "left out"
                break
            self._room -= len(field.name)
            if field.GetOptions().debug_redact or is_secret(field.name):
                shown[field.name] = REDACTED
            elif (entry := field.message_type) is not None and entry.GetOptions().map_entry:
                shown[field.name] = self._map(entry.fields_by_name["value"], value, depth)
            elif field.is_repeated:
                shown[field.name] = self._list(field, value, depth)
            else:
                shown[field.name] = self._value(field, value, depth)
        return shown

    def _map(self, of: FieldDescriptor, values: Any, depth: int) -> dict[str, Any]:
        shown: dict[str, Any] = {}
        for key in values:
            if self._room <= 0:
                shown["…"] = "left out"
                break
            name = redact_text(str(key), MAX_FIELD)
            self._room -= len(name)
            shown[name] = REDACTED if is_secret(str(key)) else self._value(of, values[key], depth)
        return shown

    def _list(self, field: FieldDescriptor, values: Iterable[Any], depth: int) -> list[Any]:
        shown: list[Any] = []
        for value in values:
            if self._room <= 0:
                shown.append("…")
                break
            shown.append(self._value(field, value, depth))
        return shown

    def _value(self, field: FieldDescriptor, value: Any, depth: int) -> Any:
        if isinstance(value, Message):
            return self._show(value, depth + 1)
        if field.enum_type is not None:
            known = field.enum_type.values_by_number.get(value)
            value = known.name if known is not None else value
        elif isinstance(value, bytes):
            value = _opaque(value)
        elif isinstance(value, str):
            value = redact_text(value, min(MAX_FIELD, max(self._room, 0)))
        self._room -= len(str(value))
        return value


def _opaque(value: Any) -> str:
    return f"<{len(value)} bytes>" if isinstance(value, bytes) else f"<{type(value).__name__}>"
