"""Access tokens: who may do what for the next minutes, signed (RFC 9068)."""

import math
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from pydantic import SecretStr

from auth.key_ring import KeyRing
from grpc_common.metadata_size import MAX_TOKEN
from grpc_common.scope import is_scope

LONGEST: Final = 900
"""Seconds a token lives at most: as long goes on what was revoked, where nobody hears of it."""


@dataclass(frozen=True, slots=True)
class Grant:
    """Whom a token stands for, which program it is given to, and what it allows."""

    subject: str
    client_id: str
    roles: frozenset[str] = frozenset()
    scopes: frozenset[str] = frozenset()
    session: str = ""
    """The session that it belongs to and ends with."""

    def __post_init__(self) -> None:
        if not all((self.subject, self.client_id, *self.roles)):
            raise ValueError("a token needs a subject and a client, and its roles need names")
        for name in (self.subject, self.client_id, *self.roles):
            name.encode()  # half of a surrogate pair is in no encoding, and no verifier takes it
        if not all(map(is_scope, self.scopes)):
            raise ValueError("a scope has characters that no scope may have")


@dataclass(frozen=True, slots=True)
class AccessToken:
    """A token, the id it can be revoked by, and when it expires, in Unix seconds."""

    token: SecretStr
    id: str
    expires_at: int


class AccessTokens:
    """Issues access tokens of `lifetime` seconds for one audience; `clock` gives Unix seconds.

    `taken_back_until` gives the moment until which all tokens were taken back: those to come say that they are of
    later.
    """

    def __init__(
        self,
        keys: KeyRing,
        *,
        issuer: str,
        audience: str,
        lifetime: int = 600,
        clock: Callable[[], float] = time.time,
        taken_back_until: Callable[[], float] = lambda: float("-inf"),
    ) -> None:
        if not 0 < lifetime <= LONGEST:
            raise ValueError(f"an access token lives 1 to {LONGEST} seconds")
        if not issuer or not audience:
            raise ValueError("access tokens need an issuer and an audience")
        self._keys = keys
        self._issuer = issuer
        self._audience = audience
        self._lifetime = lifetime
        self._clock = clock
        self._taken_back_until = taken_back_until

    async def issue(self, grant: Grant) -> AccessToken:
        """Return a token for `grant`.

        Raises:
            ExternalServiceError: it cannot be signed just now.
            ValueError: no verifier would take it: it says too much.
        """
        now = int(self._clock())
        expires_at = now + self._lifetime
        token_id = secrets.token_hex(16)
        claims = {
            "iss": self._issuer,
            "aud": self._audience,
            "sub": grant.subject,
            "client_id": grant.client_id,
            "iat": self._issued_at(now),
            "nbf": now,
            "exp": expires_at,
            "jti": token_id,
            "roles": sorted(grant.roles),
        }
        if grant.scopes:  # none is not "" (RFC 6749 appendix A.4)
            claims["scope"] = " ".join(sorted(grant.scopes))
        if grant.session:
            claims["sid"] = grant.session
        token = await self._keys.sign(claims)
        if len(token) > MAX_TOKEN:
            raise ValueError(f"a token of {len(token)} characters is longer than verifiers take: give fewer roles")
        return AccessToken(SecretStr(token), token_id, expires_at)

    def _issued_at(self, now: int) -> int:
        taken_back_until = self._taken_back_until()
        return max(now, math.floor(taken_back_until) + 1) if math.isfinite(taken_back_until) else now
