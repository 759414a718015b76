"""What a token proves at this moment (RFC 7662), and its end before its time (RFC 7009)."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from pydantic import SecretStr

from auth.audit import Kind
from auth.caller import Caller
from auth.recorder import Recorder
from auth.refresh import RefreshTokens
from auth.taken_back import TakenBack, is_taken_back
from grpc_common.compact_token import CompactToken
from grpc_common.errors import ForbiddenError, UnauthorizedError
from grpc_common.jwt_service import JWTService
from grpc_common.principal import Principal


class OtherClientsTokenError(ForbiddenError):
    """The token was issued to another client than the one that wants it taken back."""

    reason = "OTHER_CLIENTS_TOKEN"

    def __init__(self) -> None:
        super().__init__("the token was issued to another client")


@dataclass(frozen=True, slots=True)
class Introspection:
    """What is known of a token that counts; times are Unix seconds."""

    kind: Literal["access", "refresh"]
    subject: str
    client_id: str
    scopes: frozenset[str]
    expires_at: float
    id: str
    """The `jti` of an access token, the family of a refresh token."""
    issued_at: float | None = None
    roles: frozenset[str] = frozenset()


class Tokens:
    """Looks at tokens of both kinds. It asks the database, and so knows of what was taken back before others do.

    `clock` gives the Unix seconds that access tokens are stamped with.
    """

    def __init__(
        self,
        verifier: JWTService,
        taken_back: TakenBack,
        refresh: RefreshTokens,
        recorder: Recorder,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._verifier = verifier
        self._taken_back = taken_back
        self._refresh = refresh
        self._recorder = recorder
        self._clock = clock

    async def introspect(self, token: SecretStr) -> Introspection | None:
        """Return what the token proves, None when that is nothing: also from the second it expires, and until the one
        from which it can be used (RFC 7662 §4). Who verifies tokens by itself allows for clocks that differ; who asks
        their issuer has the issuer's time.

        Raises:
            ExternalServiceError: nobody can tell just now.
        """
        if (family := await self._refresh.find(token)) is not None:
            return Introspection(
                kind="refresh",
                subject=family.subject,
                client_id=family.client_id,
                scopes=frozenset(family.scopes),
                expires_at=self._refresh.expires_at(family),
                id=family.id,
                issued_at=family.rotated_at,
            )
        principal = await self._living(token)
        if principal is None:
            return None
        claims = CompactToken.parse(token.get_secret_value()).claims  # which the principal was made of
        now, issued_at = self._clock(), claims.get("iat", 0.0)
        # What counts from when it is issued counts at once: the replica that issued it may be a moment ahead.
        if now >= claims["exp"] or claims.get("nbf", 0.0) > max(now, issued_at):
            return None
        return Introspection(
            kind="access",
            subject=principal.subject,
            client_id=principal.client_id,
            scopes=principal.scopes,
            expires_at=float(claims["exp"]),
            id=principal.token_id,
            issued_at=principal.issued_at,
            roles=principal.roles,
        )

    async def revoke(self, token: SecretStr, caller: Caller, client_id: str | None = None) -> None:
        """Take the token back: a refresh token with its whole session, an access token alone. What proves nothing has
        nothing to be taken back. `client_id` is the client that asks, None where that is not asked for.

        Raises:
            OtherClientsTokenError: it was issued to another client (RFC 7009 §2.1).
            ExternalServiceError: nobody can tell just now, or it cannot be written down.
        """
        if (family := await self._refresh.family_of(token)) is not None:
            _is_of(client_id, family.client_id)
            await self._refresh.revoke(family.id, "logged_out", _holding(family.subject, caller))
        elif (found := await self._living(token)) is not None:  # for as long as any verifier takes it
            _is_of(client_id, found.client_id)
            await self._recorder.record(
                Kind.TOKEN_REVOKED,
                _holding(found.subject, caller),
                subject=found.subject,
                client_id=found.client_id,
                token_id=found.token_id,
            )

    async def _living(self, token: SecretStr) -> Principal | None:
        """Return whom an access token proves that verifiers take and that was not taken back."""
        try:
            principal = await self._verifier.verify(token.get_secret_value())
        except UnauthorizedError:
            return None
        return None if await is_taken_back(principal, self._taken_back) else principal


def _is_of(client_id: str | None, owner: str) -> None:
    if client_id not in (None, owner):
        raise OtherClientsTokenError


def _holding(subject: str, caller: Caller) -> Caller:
    """Return the caller; who has proved nothing else is who the token was given to."""
    return caller if caller.actor else caller.proved(subject)
