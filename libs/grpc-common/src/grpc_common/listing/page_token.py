"""Page tokens (AIP-158): where a list goes on, for callers a text that means nothing and that they cannot change."""

import base64
import binascii
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from grpc_common.errors import ValidationError
from grpc_common.listing.order import Position
from grpc_common.listing.position_codec import decode_position, encode_position
from grpc_common.listing.query import FINGERPRINT_BYTES, Query

MAX_LENGTH: Final = 1_024
LEAST_SECRET: Final = 16
"""Bytes of a secret."""

_VERSION: Final = b"\x01"
_TAG_BYTES: Final = 16
ROOM: Final = MAX_LENGTH * 3 // 4 - len(_VERSION) - _TAG_BYTES - FINGERPRINT_BYTES
"""The bytes a position may take."""


class PageTokens:
    """Writes page tokens and reads them again: encrypted and authenticated (AES-SIV, RFC 5297), URL-safe, at most
    1,024 characters.

    All replicas of a service have the same secrets. The first one makes new tokens, those made with the others are
    still read: put a new secret in front of the old one, everywhere, and drop the old one later. A token is no
    permission: whoever shows one is checked as if there were none.
    """

    def __init__(self, secret: bytes, *older: bytes) -> None:
        self._ciphers = [_cipher(each) for each in (secret, *older)]

    def write(self, query: Query, position: Position) -> str:
        """Return the token with which `query` goes on after `position`."""
        data = query.fingerprint + encode_position(query.fields, position)
        token = _VERSION + self._ciphers[0].encrypt(data, [_VERSION])
        return base64.urlsafe_b64encode(token).rstrip(b"=").decode()

    def read(self, token: str, query: Query) -> Position | None:
        """Return the position to go on after, or None for the empty token, which begins at the begin.

        Raises:
            ValidationError: for `page_token`, when it is none of ours or belongs to other arguments.
        """
        if not token:
            return None
        data = self._open(token)
        if data[:FINGERPRINT_BYTES] != query.fingerprint:
            raise ValidationError(
                "belongs to a call with another filter, order_by or resource: send the same ones, or no page_token",
                field="page_token",
            )
        return decode_position(query.fields, data[FINGERPRINT_BYTES:])

    def _open(self, token: str) -> bytes:
        sealed = _decoded(token)
        if sealed.startswith(_VERSION):
            for cipher in self._ciphers:
                try:
                    return cipher.decrypt(sealed[len(_VERSION) :], [_VERSION])
                except (InvalidTag, ValueError):  # ValueError: too short to hold a tag
                    continue
        raise ValidationError("is not a token of this list; start again without one", field="page_token")


def _decoded(token: str) -> bytes:
    """Return the bytes; a text that is not exactly how we would write them is no token."""
    if len(token) > MAX_LENGTH or not token.isascii():
        return b""
    try:
        data = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    except binascii.Error:
        return b""
    return data if base64.urlsafe_b64encode(data).rstrip(b"=").decode() == token else b""


def _cipher(secret: bytes) -> AESSIV:
    if len(secret) < LEAST_SECRET:
        raise ValueError(f"a secret for page tokens has at least {LEAST_SECRET} bytes, not {len(secret)}")
    return AESSIV(HKDF(SHA256(), length=64, salt=None, info=b"meshwork page tokens").derive(secret))
