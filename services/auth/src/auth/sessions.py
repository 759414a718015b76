"""Sessions of users: begun with a password, carried on with refresh tokens, ended by anybody who may."""

from collections.abc import Collection
from typing import Final

from pydantic import SecretStr

from auth.access_token import AccessToken, AccessTokens, Grant
from auth.audit import Kind
from auth.caller import Caller
from auth.client import Client
from auth.credentials import Credentials
from auth.family import Family, Login
from auth.issued import Session
from auth.recorder import Recorder
from auth.refresh import RefreshRefusedError, RefreshTokens
from auth.repository import Users
from auth.scopes import granted
from auth.user import User
from grpc_common.errors import AbortedError, NotFoundError, UnauthorizedError

FIRST_PARTY: Final = "meshwork"
"""The client of who logs in with the service's own API, by whatever program."""


class OtherClientError(UnauthorizedError):
    """A session that is of another client than the one that asks, or than the first party."""

    reason = "OTHER_CLIENT"

    def __init__(self) -> None:
        super().__init__("this session was begun by another client, which must prove itself by its id and its secret")


class Sessions:
    """Logs users in, gives them new tokens, and logs them out. `scopes` are those a user may have."""

    def __init__(
        self,
        users: Users,
        credentials: Credentials,
        access: AccessTokens,
        refresh: RefreshTokens,
        recorder: Recorder,
        *,
        scopes: frozenset[str] = frozenset(),
    ) -> None:
        self._users = users
        self._credentials = credentials
        self._access = access
        self._refresh = refresh
        self._recorder = recorder
        self._scopes = scopes

    async def log_in(
        self,
        username: str,
        password: SecretStr,
        scopes: Collection[str],
        caller: Caller,
        client: Client | None = None,
    ) -> Session:
        """Begin a session for the user with that password, with a client that has proved itself or the first party.

        Raises:
            LoginRefusedError: they are not those of a user who may log in now.
            ScopeRefusedError: a scope is asked for that no user may have.
            RateLimitError: too many tries, or too many at once.
            AbortedError: the password, the roles or the right to log in changed meanwhile, or the client was deleted.
            ExternalServiceError: the database cannot be reached, or tokens cannot be signed just now.
        """
        client_id = FIRST_PARTY if client is None else client.id
        user = await self._credentials.prove(username, password, caller, client_id)
        chosen = granted(scopes, self._scopes)
        draft = self._refresh.draft(user.id, client_id, chosen)
        access = await self._sign(user, draft.family, chosen)  # first: no session is left of a login that has no token
        event = self._recorder.event(
            Kind.LOGGED_IN,
            caller.proved(user.id),
            subject=user.id,
            client_id=client_id,
            session_id=draft.family.id,
        )
        if not await self._refresh.keep(draft, Login(user, event, client)):
            raise AbortedError("the user or the client changed at the same moment: try again")
        return Session(access, chosen, draft)

    async def refresh(
        self, token: SecretStr, caller: Caller, client_id: str = FIRST_PARTY, scopes: Collection[str] = ()
    ) -> Session:
        """Use `token` up and return the next of both tokens, with the user's roles as they are now. `scopes` are those
        that the access token is for, all of the session when none is named; the session keeps all it has (RFC 6749 §6),
        and gives none that users may not have any more.

        Raises:
            RefreshRefusedError: it is no token of a living session of that client.
            ScopeRefusedError: a scope is asked for that the session does not have; the token is not used up.
            RateLimitError: the session has had too many tokens in one grace.
            AbortedError: other calls kept changing the session.
            ExternalServiceError: as `log_in` does; the token is not used up then.
        """
        arrived = self._refresh.now()
        family = await self._refresh.find(token, arrived)
        if family is None:
            had = await self._refresh.family_of(token)
            if had is not None and had.client_id == client_id:  # who is another client ends nothing of this one's
                # Says why it is refused, and ends the family of a stolen one.
                await self._refresh.refresh(token, arrived, caller)
            raise RefreshRefusedError
        if family.client_id != client_id:
            raise RefreshRefusedError
        user = await self._users.get(family.subject)
        if user is None or user.disabled:
            await self._refresh.revoke(family.id, "disabled", caller)
            raise RefreshRefusedError
        # Signed before the token is used up: who could not be answered for longer than the grace keeps the session.
        chosen = granted(scopes, frozenset(family.scopes) & self._scopes)
        access = await self._sign(user, family, chosen)
        refreshed = await self._refresh.refresh(token, arrived, caller)
        await self._credentials.recognise(user, caller)
        return Session(access, chosen, refreshed)

    async def log_out(
        self, token: SecretStr, caller: Caller, client_id: str = FIRST_PARTY, *, everywhere: bool = False
    ) -> None:
        """End the session of a refresh token, or all of its user, and their access tokens within seconds; what is no
        token has no session. A token that was used up ends no session but its own.

        Raises:
            OtherClientError: the session is of another client than that.
        """
        family = await self._refresh.family_of(token)
        if family is not None and family.client_id != client_id:
            raise OtherClientError
        await self._refresh.log_out(token, caller, everywhere=everywhere)

    async def revoke(self, family_id: str, caller: Caller, *, owner: str | None = None) -> None:
        """End a session by its id, where `owner` is None for an administrator; one that has ended already stays so.

        Raises:
            NotFoundError: there is no such session, or it is not the owner's.
        """
        family = await self._refresh.family(family_id)
        if family is None or owner not in (None, family.subject):
            raise NotFoundError("there is no such session, or none that you may end")
        await self._refresh.revoke(family_id, "administrator" if owner is None else "logged_out", caller)

    async def _sign(self, user: User, family: Family, scopes: frozenset[str]) -> AccessToken:
        return await self._access.issue(Grant(user.id, family.client_id, user.roles, scopes, session=family.id))
