"""The `request_id` by which a server knows a repeated write (AIP-155), filled in where the caller left it empty."""

import uuid
from typing import Final

from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import DecodeError, Message

_LENGTH_DELIMITED: Final = 2


class RequestId:
    """Fills the field in requests of one type, in their serialised form: the caller's own message stays as it is."""

    __slots__ = ("_class", "_head", "_type")

    def __init__(self, request_type: Descriptor) -> None:
        self._type = request_type.full_name
        self._class = message_factory.GetMessageClass(request_type)
        tag = request_type.fields_by_name["request_id"].number << 3 | _LENGTH_DELIMITED
        self._head = _varint(tag) + _varint(36)

    def fill(self, request: object, raw: bytes) -> bytes:
        """Return `raw`, the serialised `request`, with a new id in it where it has none.

        Raises ValueError for bytes that are no request of this type: nobody can know what repeating them would do.
        """
        if not (isinstance(request, Message) and request.DESCRIPTOR.full_name == self._type):
            try:
                request = self._class.FromString(raw)
            except DecodeError as error:
                raise ValueError(f"the request does not parse as {self._type}") from error
        if request.request_id:  # type: ignore[attr-defined]  # of a type that has it
            return raw
        # Of a field that stands twice the last one counts, so that nothing needs to be parsed or copied.
        return raw + self._head + str(uuid.uuid4()).encode()


def _varint(number: int) -> bytes:
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)
