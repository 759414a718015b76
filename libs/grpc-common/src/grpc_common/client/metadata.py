"""The metadata a caller gives with a call, checked before anything is sent.

Core finds the same faults only while it sends: as INTERNAL without the key's name, as an exception out of its depths,
or not at all (it drops some keys in silence).
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from grpc_common.metadata_size import FIELD_OVERHEAD, MAX_METADATA

type Pairs = tuple[tuple[str, str | bytes], ...]

_KEY: Final = re.compile(r"[0-9a-z_.-]+")
"""Custom-Metadata of the gRPC protocol over HTTP/2."""
_RESERVED: Final = frozenset(
    {
        # Core's own, which would take the place of the caller's without a word.
        "content-type", "te", "user-agent",
        # What HTTP/2 does not allow in a request (RFC 9113, section 8.2.2), or what says where its body ends.
        "connection", "content-length", "host", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade",
    }
)  # fmt: skip


def checked(metadata: Iterable[tuple[str, str | bytes]] | None) -> Pairs:
    """Return `metadata` as pairs that can be sent.

    Raises TypeError and ValueError, which name the key and never the value: it may be a secret.
    """
    if metadata is None:
        return ()
    if isinstance(metadata, Mapping | str | bytes) or not isinstance(metadata, Iterable):
        raise TypeError(f"metadata is a sequence of pairs, not a {_name(metadata)}: write ((key, value), ...)")
    pairs = tuple([_pair(each) for each in metadata])
    if sum([FIELD_OVERHEAD + len(key) + len(value) for key, value in pairs]) > MAX_METADATA:
        longest = max(pairs, key=lambda pair: len(pair[1]))[0]
        raise ValueError(f"metadata of more than {MAX_METADATA} bytes, most of them under {longest!r}: send less")
    return pairs


def _pair(pair: Any) -> tuple[str, str | bytes]:
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        raise TypeError(f"metadata is made of pairs of a key and a value, and one of its parts is a {_name(pair)}")
    key, value = pair
    if not isinstance(key, str):
        raise TypeError(f"the key {key!r} in metadata is a {_name(key)}: keys are str")
    if _KEY.fullmatch(key) is None or key == "-bin":
        raise ValueError(f"{key!r} is no key of metadata: keys have lower-case letters, digits, `_`, `-` and `.`")
    if key.startswith("grpc-") or key in _RESERVED:
        raise ValueError(f"{key!r} in metadata is gRPC's own: give it another name")
    if key.endswith("-bin"):
        if not isinstance(value, bytes):
            raise TypeError(f"the value of {key!r} in metadata is a {_name(value)}: for keys in `-bin` it is bytes")
        return key, value
    if not isinstance(value, str | bytes):
        raise TypeError(f"the value of {key!r} in metadata is a {_name(value)}: it is str")
    text = value.decode("latin-1") if isinstance(value, bytes) else value
    if not (text.isascii() and text.isprintable()):
        raise ValueError(
            f"the value of {key!r} in metadata has characters other than printable ASCII: "
            f"send it as bytes, under {key + '-bin'!r}"
        )
    return key, value


def _name(value: object) -> str:
    return type(value).__name__
