"""The introspection endpoint (RFC 7662)."""

from http import HTTPStatus
from typing import Any, Final

from fastapi import Request, Response
from fastapi.responses import JSONResponse

from auth.introspection import Introspection, Tokens
from auth.oauth.client import prove, read_proof
from auth.oauth.error import NOT_STORED, OAuthError, invalid_client
from auth.oauth.form import read_form
from auth.oauth.origin import Origin
from auth.oauth.policy import policy_of
from auth.oauth.revocation import LONGEST_TOKEN
from auth.oauth.scope import scope_parameter
from auth.service_tokens import ServiceTokens

ROLES: Final = frozenset(policy_of("Introspect").access.roles)
"""Those of whom a client needs one."""


class IntrospectionEndpoint:
    """Says what a token proves at this moment, to clients that have one of the ROLES."""

    def __init__(self, tokens: Tokens, clients: ServiceTokens, origin: Origin, *, issuer: str, audience: str) -> None:
        self._tokens = tokens
        self._clients = clients
        self._origin = origin
        self._issuer = issuer
        self._audience = audience

    async def __call__(self, request: Request) -> Response:
        """Answer with what is known of the token, or raise OAuthError or one of the use cases' errors."""
        form = await read_form(request)
        token = form.secret("token", LONGEST_TOKEN)
        client = await prove(read_proof(request, form), self._clients, self._origin(request))
        if client is None:
            raise invalid_client("this endpoint is for clients that prove themselves")
        if ROLES.isdisjoint(client.roles):
            raise OAuthError("access_denied", "the client has no role for this endpoint", HTTPStatus.FORBIDDEN)
        found = await self._tokens.introspect(token)
        return JSONResponse(self._told(found) if found is not None else {"active": False}, headers=NOT_STORED)

    def _told(self, found: Introspection) -> dict[str, Any]:
        told: dict[str, Any] = {
            "active": True,
            "iss": self._issuer,
            "sub": found.subject,
            "client_id": found.client_id,
            **scope_parameter(found.scopes),
            "exp": int(found.expires_at),
        }
        if found.issued_at is not None:
            told["iat"] = int(found.issued_at)
        if found.kind == "refresh":
            return {**told, "sid": found.id}
        return {
            **told,
            "token_type": "Bearer",
            "aud": self._audience,
            "jti": found.id,
            "roles": sorted(found.roles),
        }
