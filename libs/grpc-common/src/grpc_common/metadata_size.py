"""How large the metadata of a call may be: one number for servers, clients and proxies, above the largest token."""

from typing import Final

MAX_TOKEN: Final = 8 * 1024
"""Characters of an access token."""
MAX_BAGGAGE: Final = 8 * 1024
"""Bytes of a `baggage` header that everybody must pass on (W3C Baggage §3.3.2)."""
MAX_FROM_OUTSIDE: Final = MAX_TOKEN + MAX_BAGGAGE + 8 * 1024
"""Bytes a caller may send to the edge of a mesh: a token, baggage, and as much again as either for all the rest."""
FIELD_OVERHEAD: Final = 32
"""Bytes that HTTP/2 counts for each field beside its name and value (RFC 9113 §6.5.2)."""
MAX_METADATA: Final = MAX_FROM_OUTSIDE + 8 * 1024
"""Bytes that one side takes of the other: what came from outside, with what proxies add to it on the way, and with the
32 that HTTP/2 counts for each field (RFC 9113 §6.5.2), of which proxies take a hundred.
"""
MAX_REPLY: Final = 8 * 1024
"""Bytes of metadata a server may send at once. Every client takes them: core's own limit is 8 KiB, and from there to
16 KiB it refuses at random.
"""

# Core takes everything below the first, nothing above the second, and in between what a die says: no room for that.
OPTIONS: Final = (("grpc.max_metadata_size", MAX_METADATA), ("grpc.absolute_max_metadata_size", MAX_METADATA))
"""Of a server or a channel."""
