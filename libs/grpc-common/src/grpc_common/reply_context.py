"""What handlers may tell a caller beside messages: only what can be sent, so that the call ends as it is logged.

Core finds out that a trailer, a text or a status cannot be sent when it is to send it. Then the caller gets INTERNAL
"Invalid metadata", UNKNOWN with the text of an exception, or never any answer, and some keys end the process.
"""

import re
from collections.abc import Iterable
from typing import Any, Final, Never

from grpc import StatusCode

from grpc_common.metadata_size import FIELD_OVERHEAD, MAX_REPLY

type Pairs = tuple[tuple[str, str | bytes], ...]

RESERVE: Final = 1024
"""Bytes of metadata for what core and the chain add: the status, the content type, the correlation id."""
MAX_PAIRS: Final = MAX_REPLY - RESERVE
"""Bytes that a handler may send at once."""
MAX_DETAILS: Final = 2048
"""Bytes of the text of a status on the wire, where all but printable ASCII takes three for one."""
MAX_SHOWN: Final = 200

_KEY: Final = re.compile(r"[0-9a-z_.-]+")
_VALUE: Final = re.compile(rb"(?:[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?)?")  # RFC 9113 §8.2.1: no space at either end
# Of the keys that gRPC reserves, those that are no business of core's alone.
_ALLOWED: Final = frozenset(
    {"grpc-retry-pushback-ms", "grpc-server-stats-bin", "grpc-status-details-bin", "grpc-tags-bin", "grpc-trace-bin"}
)
_REFUSED: Final = frozenset(
    {
        "connection",  # and the others that RFC 9113 §8.2.2 forbids
        "content-length",
        "content-type",
        "grpclb_client_stats",
        "keep-alive",
        "proxy-connection",
        "te",
        "transfer-encoding",
        "upgrade",
    }
)
_BY_NUMBER: Final = {status.value[0]: status for status in StatusCode}


class UnsendableReplyError(ValueError):
    """What a handler wants to tell its caller cannot be sent; the message says what, why, and never a value."""


class ReplyContext:
    """A servicer context that refuses at once, in the handler, what core would fail to send later.

    A status that is none is UNKNOWN, as it is for core. A text is made sendable: lone surrogates are replaced, and what
    is too long is cut. After the status has been sent it stays what it is.
    """

    __slots__ = ("_context",)

    def __init__(self, context: Any) -> None:
        self._context = context

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    async def send_initial_metadata(self, initial_metadata: Any) -> None:
        """Send metadata before any message. Raise UnsendableReplyError where it cannot be sent."""
        await self._context.send_initial_metadata(sendable(initial_metadata))

    def set_trailing_metadata(self, trailing_metadata: Any) -> None:
        """Set the trailers. Raise UnsendableReplyError where they cannot be sent."""
        self._context.set_trailing_metadata(sendable(trailing_metadata))
        if text := self._context.details():
            self.set_details(text)  # there may be less room for it now

    def set_code(self, code: Any) -> None:
        """Set the status."""
        if not self._context.done():
            self._context.set_code(status_of(code))

    def set_details(self, details: Any) -> None:
        """Set the text of the status."""
        self._context.set_details(_text(details, size_of(self._context.trailing_metadata() or ())))

    async def abort(self, code: Any, details: Any = "", trailing_metadata: Any = ()) -> Never:
        """End the call. Raise UnsendableReplyError where that is impossible; it says how the call was to end."""
        status = status_of(code)
        try:
            if status is StatusCode.OK:
                raise UnsendableReplyError("OK is no failure: return, or name another status")
            pairs = sendable(trailing_metadata)
            text = _text(details, size_of(pairs or self._context.trailing_metadata() or ()))
        except UnsendableReplyError as error:
            meant = f"{status.name}, {_shown(details)}"
            raise UnsendableReplyError(f"the call was to be aborted with {meant}, but: {error}") from None
        await self._context.abort(status, text, pairs)
        raise AssertionError("abort returned")

    async def abort_with_status(self, status: Any) -> Never:
        """End the call as `abort` does."""
        await self.abort(status.code, status.details, status.trailing_metadata or ())


def sendable(metadata: Any) -> Pairs:
    """Return `metadata`, an iterable of pairs, as core takes it. Raise UnsendableReplyError naming the key at fault."""
    try:
        pairs: Pairs = tuple((key, value) for key, value in metadata or ())
    except (TypeError, ValueError):
        raise UnsendableReplyError(f"metadata is pairs of a key and a value, not {type(metadata).__name__}") from None
    for key, value in pairs:
        if problem := _problem(key, value):
            raise UnsendableReplyError(f"the metadata {_shown(key)} cannot be sent: {problem}")
    if (size := size_of(pairs)) > MAX_PAIRS:
        largest = max(pairs, key=lambda pair: len(pair[1]))[0]
        raise UnsendableReplyError(
            f"metadata of {size} bytes cannot be sent, for a client may refuse more than {MAX_REPLY} with all that is "
            f"added: at most {MAX_PAIRS}; the largest is {_shown(largest)}"
        )
    return pairs


def status_of(code: Any) -> StatusCode:
    """Return the status that core makes of `code`: UNKNOWN of whatever is none."""
    if isinstance(code, StatusCode):
        return code
    number = code if isinstance(code, int) else next(iter(_parts(code)), None)
    return _BY_NUMBER.get(number, StatusCode.UNKNOWN) if isinstance(number, int) else StatusCode.UNKNOWN


def size_of(pairs: Iterable[tuple[str, str | bytes]]) -> int:
    """Return the bytes that HTTP/2 counts for `pairs` (RFC 9113 §6.5.2), binary ones as base64."""
    return sum(
        FIELD_OVERHEAD + len(key) + (-(-len(value) // 3) * 4 if key.endswith("-bin") else len(value))
        for key, value in pairs
    )


def _parts(code: Any) -> Iterable[Any]:
    value = getattr(code, "value", None)
    return value if isinstance(value, tuple) else ()


def _problem(key: Any, value: Any) -> str:
    if not isinstance(key, str) or not _KEY.fullmatch(key):
        return 'a key is lower-case ASCII letters, digits, "-", "_" and "."'
    if key in _REFUSED or (key.startswith("grpc-") and key not in _ALLOWED):
        return "the key belongs to gRPC or HTTP/2 itself"
    if key.endswith("-bin"):
        return "" if isinstance(value, bytes) else f"the value of a -bin key is bytes, not {type(value).__name__}"
    if not isinstance(value, str | bytes):
        return f"a value is a str, not {type(value).__name__}"
    data = value if isinstance(value, bytes) else value.encode("utf-8", "replace")
    if not _VALUE.fullmatch(data) or (isinstance(value, str) and not value.isascii()):
        return (
            "a value is printable ASCII without space at either end: give others as bytes, with a key that ends in -bin"
        )
    return ""


def _shown(value: Any) -> str:
    return ascii(value)[:MAX_SHOWN]


def _text(details: Any, beside: int) -> str:
    if details is None:
        return ""
    if not isinstance(details, str):
        raise UnsendableReplyError(f"the details of a status are a str, not {type(details).__name__}")
    room = min(MAX_DETAILS, MAX_REPLY - beside - RESERVE // 2)
    if len(details) <= room and details.isascii() and details.isprintable() and "%" not in details:
        return details
    data = details.encode("utf-8", "replace")
    room -= 9  # for the ellipsis
    taken = 0
    for number, byte in enumerate(data):
        taken += 1 if 0x20 <= byte <= 0x7E and byte != 0x25 else 3
        if taken > room:
            return data[:number].decode("utf-8", "ignore") + "…"
    return data.decode()
