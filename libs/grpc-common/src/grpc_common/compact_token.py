"""The outer form of a signed token: JWS compact serialisation (RFC 7515 §3.1), read strictly."""

import binascii
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from typing import Any, Final, Self

from grpc_common.strict_json import load_object

_PARTS: Final = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)")
_TYPES: Final = frozenset({"at+jwt", "application/at+jwt"})


class MalformedTokenError(ValueError):
    """Not a token; the message holds nothing of it."""


@dataclass(frozen=True, slots=True, repr=False)
class CompactToken:
    """A token taken apart and not yet believed; it has no repr, because it holds the whole token."""

    algorithm: str
    kid: str
    claims: dict[str, Any]
    signed: bytes
    signature: bytes

    @classmethod
    def parse(cls, token: str) -> Self:
        """Take `token` apart; raise MalformedTokenError.

        Only `alg`, `kid` and `typ` of its header are read: a key or an address of a key inside a token (`jwk`, `jku`,
        `x5c`, `x5u`) says nothing about who made it (RFC 8725 §3.10). `typ` is that of an access
        token (RFC 9068 §4), in any case of letters: an ID token, or what else an issuer signs as a mere JWT, is none.
        `crit` announces extensions, and there is none we know (RFC 7515 §4.1.11).
        """
        if (parts := _PARTS.fullmatch(token)) is None:
            raise MalformedTokenError("it is not three parts of base64url")
        first, second, third = parts.groups()
        header = _object(first)
        algorithm, kid, type_ = header.get("alg"), header.get("kid"), header.get("typ")
        if "crit" in header:
            raise MalformedTokenError("it needs an extension")
        if not isinstance(algorithm, str) or not isinstance(kid, str):
            raise MalformedTokenError("it names no algorithm or no key")
        if not isinstance(type_, str) or type_.lower() not in _TYPES:
            raise MalformedTokenError("it is of another type")
        return cls(algorithm, kid, _object(second), f"{first}.{second}".encode(), _decode(third))


def _object(part: str) -> dict[str, Any]:
    data = _decode(part)
    try:
        return load_object(data)
    except ValueError:
        raise MalformedTokenError("a part of it is not a JSON object") from None


def _decode(part: str) -> bytes:
    try:
        data = urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except binascii.Error:
        raise MalformedTokenError("a part of it is not base64url") from None
    # The last character carries bits that decoding throws away: without this, several texts were the same token.
    if urlsafe_b64encode(data).rstrip(b"=") != part.encode():
        raise MalformedTokenError("a part of it is not in its only base64url form")
    return data
