"""The one name of a key that no other key has (RFC 7638)."""

import hashlib
import json
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from typing import Final

_MEMBERS: Final = ("crv", "e", "kty", "n", "x", "y")
"""Those that make up a key of the kinds there are here, in the order of the RFC (RFC 7638 §3.2, RFC 8037 §2)."""


def thumbprint(jwk: Mapping[str, str]) -> str:
    """Return the SHA-256 thumbprint of a public key, 43 characters of base64url."""
    members = {name: jwk[name] for name in _MEMBERS if name in jwk}
    digest = hashlib.sha256(json.dumps(members, separators=(",", ":")).encode()).digest()
    return urlsafe_b64encode(digest).rstrip(b"=").decode()
