"""The token endpoint (RFC 6749 §3.2): a proof in, tokens out."""

import time
from collections.abc import Callable
from typing import Any, Final

from fastapi import Request, Response
from fastapi.responses import JSONResponse

from auth.caller import Caller
from auth.client import Client
from auth.issued import Issued
from auth.oauth.client import prove, read_proof
from auth.oauth.error import NOT_STORED, OAuthError, invalid_client
from auth.oauth.form import Form, read_form
from auth.oauth.origin import Origin
from auth.oauth.pace import Pace
from auth.oauth.rules import longest
from auth.oauth.scope import read_scopes, scope_parameter
from auth.service_tokens import ServiceTokens
from auth.sessions import FIRST_PARTY, Sessions

LONGEST_NAME: Final = longest("LoginRequest", "username")
LONGEST_PASSWORD: Final = longest("LoginRequest", "password")
LONGEST_REFRESH_TOKEN: Final = longest("RefreshRequest", "refresh_token")


class TokenEndpoint:
    """Serves the grants `client_credentials`, `refresh_token` and, only with `password_grant`, `password`.

    A session belongs to the client it was begun by, and is carried on by that client only. The first party, which is
    the users' own programs, keeps no secrets and so proves nothing: the refresh token is proof enough. `clock` gives
    Unix seconds.
    """

    def __init__(
        self,
        sessions: Sessions,
        clients: ServiceTokens,
        origin: Origin,
        *,
        password_grant: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._sessions = sessions
        self._clients = clients
        self._origin = origin
        self._clock = clock
        self._grants = {
            "client_credentials": (self._client_credentials, Pace("IssueServiceToken")),
            "refresh_token": (self._refresh_token, Pace("Refresh")),
        }
        if password_grant:
            self._grants["password"] = self._password, Pace("Login")

    @property
    def grants(self) -> list[str]:
        """The grants that are served."""
        return list(self._grants)

    async def __call__(self, request: Request) -> Response:
        """Answer with tokens, or raise OAuthError or one of the use cases' errors."""
        form = await read_form(request)
        served = self._grants.get(form.need("grant_type", 128))
        if served is None:
            raise OAuthError("unsupported_grant_type", f"grant_type must be one of: {', '.join(self._grants)}")
        grant, pace = served
        proof, caller = read_proof(request, form), self._origin(request)
        client = await prove(proof, self._clients, caller)
        # Of who has proved to be it: nobody uses up what a client may by its id alone.
        pace.keep(caller, FIRST_PARTY if client is None else client.id)
        issued = await grant(form, client, caller)
        return JSONResponse(self._told(issued), headers=NOT_STORED)

    async def _client_credentials(self, form: Form, client: Client | None, caller: Caller) -> Issued:
        if client is None and form.get("client_id"):
            raise OAuthError("unauthorized_client", "this client has no secret and calls in its users' names only")
        if client is None:
            raise invalid_client("this grant is for clients that prove themselves")
        return await self._clients.issue_to(client, read_scopes(form), caller)

    async def _refresh_token(self, form: Form, client: Client | None, caller: Caller) -> Issued:
        token, scopes = form.secret("refresh_token", LONGEST_REFRESH_TOKEN), read_scopes(form)
        return await self._sessions.refresh(token, caller, FIRST_PARTY if client is None else client.id, scopes)

    async def _password(self, form: Form, client: Client | None, caller: Caller) -> Issued:
        username, password = form.need("username", LONGEST_NAME), form.secret("password", LONGEST_PASSWORD)
        scopes = read_scopes(form)
        return await self._sessions.log_in(username, password, scopes, caller, client)

    def _told(self, issued: Issued) -> dict[str, Any]:
        told: dict[str, Any] = {
            "access_token": issued.access.token.get_secret_value(),
            "token_type": "Bearer",
            "expires_in": max(0, int(issued.access.expires_at - self._clock())),
            **scope_parameter(issued.scopes),
        }
        if issued.refresh is not None:
            told["refresh_token"] = issued.refresh.token.get_secret_value()
        return told
