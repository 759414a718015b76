"""The revocation endpoint (RFC 7009)."""

from typing import Final

from fastapi import Request, Response

from auth.introspection import Tokens
from auth.oauth.client import prove, read_proof
from auth.oauth.error import NOT_STORED
from auth.oauth.form import read_form
from auth.oauth.origin import Origin
from auth.oauth.pace import Pace
from auth.oauth.rules import longest
from auth.service_tokens import ServiceTokens
from auth.sessions import FIRST_PARTY

LONGEST_TOKEN: Final = longest("IntrospectRequest", "token")


class RevocationEndpoint:
    """Takes back a token of the client that asks; what is none has nothing to be taken back, which is as good. What is
    another client's is refused.
    """

    def __init__(self, tokens: Tokens, clients: ServiceTokens, origin: Origin) -> None:
        self._tokens = tokens
        self._clients = clients
        self._origin = origin
        self._pace = Pace("Logout")

    async def __call__(self, request: Request) -> Response:
        """Answer with nothing, or raise OAuthError or one of the use cases' errors."""
        form = await read_form(request)
        token = form.secret("token", LONGEST_TOKEN)
        proof, caller = read_proof(request, form), self._origin(request)
        client = await prove(proof, self._clients, caller)
        self._pace.keep(caller, FIRST_PARTY if client is None else client.id)
        if client is None:
            await self._tokens.revoke(token, caller, FIRST_PARTY)
        else:
            await self._tokens.revoke(token, caller.proved(client.id), client.id)
        return Response(headers=NOT_STORED)
