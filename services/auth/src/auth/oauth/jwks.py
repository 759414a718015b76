"""The keys that access tokens are verified with (RFC 7517)."""

import hashlib
import json
from http import HTTPStatus
from typing import Final

from fastapi import Request, Response

from auth.key_ring import KeyRing

MAX_AGE: Final = 60
"""Seconds that the keys may be kept, at most."""


class JWKSEndpoint:
    """Serves the keys that the ring knows, also while the signer is away.

    Nobody is to keep them for longer than it takes until a key that they have not seen signs: a key is published for
    `ahead` seconds before that, and other replicas know of it `read` seconds later.
    """

    def __init__(self, keys: KeyRing, *, ahead: float, read: float) -> None:
        self._keys = keys
        self._kept = {"cache-control": f"public, max-age={max(0, min(MAX_AGE, int(ahead - read) // 2))}"}

    async def __call__(self, request: Request) -> Response:
        """Answer with the document, or that the client has it; raise ExternalServiceError when no key is known."""
        document = json.dumps(await self._keys.jwk_set(), separators=(",", ":")).encode()
        etag = f'"{hashlib.sha256(document).hexdigest()[:32]}"'
        headers = {**self._kept, "etag": etag}
        if _has(request.headers.getlist("if-none-match"), etag):
            return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
        return Response(document, headers=headers, media_type="application/jwk-set+json")


def _has(given: list[str], etag: str) -> bool:
    """Say whether one of the tags, weak or not, is `etag` (RFC 9110 §13.1.2)."""
    tags = [tag.strip().removeprefix("W/") for header in given for tag in header.split(",")]
    return etag in tags or "*" in tags
