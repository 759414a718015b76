"""Tokens for programs that call in their own name (RFC 6749 §4.4)."""

from collections.abc import Collection

from pydantic import SecretStr

from auth.access_token import AccessTokens, Grant
from auth.audit import Kind
from auth.caller import Caller
from auth.client import Client
from auth.guard import Attempt, LoginGuard
from auth.issued import Issued
from auth.recorder import Recorder
from auth.repository import Clients
from auth.scopes import granted
from grpc_common.errors import UnauthorizedError


class ClientRefusedError(UnauthorizedError):
    """Id and secret are not those of a client."""

    reason = "CLIENT_REFUSED"

    def __init__(self) -> None:
        super().__init__("the client id or the client secret is wrong")


class ServiceTokens:
    """Knows clients by their secrets, and gives them tokens."""

    def __init__(self, clients: Clients, access: AccessTokens, guard: LoginGuard, recorder: Recorder) -> None:
        self._clients = clients
        self._access = access
        self._guard = guard
        self._recorder = recorder

    async def issue(self, client_id: str, secret: SecretStr, scopes: Collection[str], caller: Caller) -> Issued:
        """Return a token for the client with that secret.

        Raises:
            ClientRefusedError: they are not those of a client.
            ScopeRefusedError: a scope is asked for that it may not have.
            RateLimitError: they are not, and the address has tried too often.
            ExternalServiceError: the database cannot be reached, or tokens cannot be signed just now.
        """
        return await self.issue_to(await self.authenticate(client_id, secret, caller), scopes, caller)

    async def issue_to(self, client: Client, scopes: Collection[str], caller: Caller) -> Issued:
        """Return a token for a client that has proved itself; raises as `issue` does from then on."""
        chosen = granted(scopes, client.scopes)
        access = await self._access.issue(Grant(client.id, client.id, client.roles, chosen, client.session_id))
        await self._recorder.record(
            Kind.SERVICE_TOKEN_ISSUED,
            caller.proved(client.id),
            subject=client.id,
            client_id=client.id,
            token_id=access.id,
        )
        return Issued(access, chosen)

    async def authenticate(self, client_id: str, secret: SecretStr, caller: Caller) -> Client:
        """Return the client with that secret; raises as `issue` does.

        A client is not held up, as its secret has 256 bits and cannot be guessed; an address from which wrong ones come
        is. So one program that goes on with an old secret is a burden to nobody else at its address.
        """
        client = await self._clients.get(client_id)
        if client is not None and client.is_proved_by(secret):
            return client
        attempt = Attempt("", caller.address)
        await self._guard.enter(attempt)
        await self._guard.failed(attempt)
        known, reason = ("", "unknown_client") if client is None else (client.id, "wrong_secret")
        await self._recorder.record(Kind.CLIENT_REFUSED, caller, subject=known, client_id=known, reason=reason)
        raise ClientRefusedError
