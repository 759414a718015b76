"""What a token proves at this moment (RFC 7662), and its end before its time (RFC 7009)."""

from dataclasses import dataclass
from typing import Literal

from pydantic import SecretStr

from auth.audit import Kind
from auth.caller import Caller
from auth.recorder import Recorder
from auth.refresh import RefreshTokens
from auth.taken_back import TakenBack, is_taken_back
from grpc_common.claims import LEEWAY
from grpc_common.errors import UnauthorizedError
from grpc_common.jwt_service import JWTService
from grpc_common.principal import Principal


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
    """Looks at tokens of both kinds. It asks the database, and so knows of what was taken back before others do."""

    def __init__(
        self,
        verifier: JWTService,
        taken_back: TakenBack,
        refresh: RefreshTokens,
        recorder: Recorder,
        *,
        leeway: float = LEEWAY,
    ) -> None:
        self._verifier = verifier
        self._taken_back = taken_back
        self._refresh = refresh
        self._recorder = recorder
        self._leeway = leeway

    async def introspect(self, token: SecretStr) -> Introspection | None:
        """Return what the token proves, None when that is nothing.

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
        principal = await self._verified(token)
        if principal is None or await is_taken_back(principal, self._taken_back):
            return None
        return Introspection(
            kind="access",
            subject=principal.subject,
            client_id=principal.client_id,
            scopes=principal.scopes,
            expires_at=principal.expires_at - self._leeway,
            id=principal.token_id,
            issued_at=principal.issued_at,
            roles=principal.roles,
        )

    async def revoke(self, token: SecretStr, caller: Caller, client_id: str | None = None) -> None:
        """Take the token back: a refresh token with its whole session, an access token alone. What proves nothing has
        nothing to be taken back, nor has a token of another client than `client_id`, where one is named.

        Raises:
            ExternalServiceError: nobody can tell just now, or it cannot be written down.
        """
        if (family := await self._refresh.family_of(token)) is not None:
            if client_id in (None, family.client_id):
                await self._refresh.revoke(family.id, "logged_out", _holding(family.subject, caller))
            return
        found = await self.introspect(token)
        if found is not None and client_id in (None, found.client_id):
            await self._recorder.record(
                Kind.TOKEN_REVOKED,
                _holding(found.subject, caller),
                subject=found.subject,
                client_id=found.client_id,
                token_id=found.id,
            )

    async def _verified(self, token: SecretStr) -> Principal | None:
        try:
            return await self._verifier.verify(token.get_secret_value())
        except UnauthorizedError:
            return None


def _holding(subject: str, caller: Caller) -> Caller:
    """Return the caller; who has proved nothing else is who the token was given to."""
    return caller if caller.actor else caller.proved(subject)
