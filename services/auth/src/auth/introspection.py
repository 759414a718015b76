"""What a token proves at this moment (RFC 7662), and its end before its time (RFC 7009)."""

from dataclasses import dataclass
from typing import Literal

from pydantic import SecretStr

from auth.audit import Kind
from auth.family import Families
from auth.recorder import Recorder
from auth.refresh import RefreshTokens
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
        families: Families,
        refresh: RefreshTokens,
        recorder: Recorder,
        *,
        leeway: float = LEEWAY,
    ) -> None:
        self._verifier = verifier
        self._families = families
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
        if principal is None or not await self._session_lives(principal):
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

    async def revoke(self, token: SecretStr, client_id: str | None = None) -> None:
        """Take the token back: a refresh token with its whole session, an access token alone. What proves nothing has
        nothing to be taken back, nor has a token of another client than `client_id`, where one is named.

        Raises:
            ExternalServiceError: nobody can tell just now, or it cannot be written down.
        """
        found = await self.introspect(token)
        if found is None or (client_id is not None and found.client_id != client_id):
            return
        if found.kind == "refresh":
            await self._refresh.revoke(found.id, "logged_out")
            return
        await self._recorder.record(
            Kind.TOKEN_REVOKED, subject=found.subject, client_id=found.client_id, token_id=found.id
        )

    async def _verified(self, token: SecretStr) -> Principal | None:
        try:
            return await self._verifier.verify(token.get_secret_value())
        except UnauthorizedError:
            return None

    async def _session_lives(self, principal: Principal) -> bool:
        if not principal.session_id:
            return True
        family = await self._families.find(principal.session_id)
        return family is not None and family.revoked is None
