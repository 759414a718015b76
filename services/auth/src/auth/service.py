"""The AuthService."""

from typing import Any, Final, override

from google.protobuf.empty_pb2 import Empty
from grpc.aio import ServicerContext
from pydantic import SecretStr

from auth.caller import Caller
from auth.mapper import (
    introspection_to_proto,
    service_token_to_proto,
    session_to_proto,
    signing_key_to_proto,
    user_to_proto,
)
from auth.sessions import FIRST_PARTY
from auth.use_cases import UseCases
from auth.user import ADMIN
from auth.user_pages import UserPages
from grpc_common.client_address import client_address
from grpc_common.errors import NotFoundError, UnauthorizedError
from grpc_common.principal import Principal, current_principal
from meshwork.auth.v1 import auth_service_pb2 as pb
from meshwork.auth.v1.auth_service_pb2_grpc import AuthServiceServicer

type Context = ServicerContext[Any, Any]

ME: Final = "me"
"""The id that stands for the caller."""


class AuthService(AuthServiceServicer):
    """Each RPC reads the request, asks a use case, maps the answer; what goes wrong is raised."""

    def __init__(self, does: UseCases, pages: UserPages, *, behind_mesh: bool = False) -> None:
        self._accounts = does.accounts
        self._clients = does.clients
        self._sessions = does.sessions
        self._service_tokens = does.service_tokens
        self._tokens = does.tokens
        self._keys = does.keys
        self._administrators = does.administrators
        self._pages = pages
        self._behind_mesh = behind_mesh

    @override
    async def BootstrapAdmin(self, request: pb.BootstrapAdminRequest, context: Context) -> pb.User:
        """Creates the first administrator."""
        secret, password = SecretStr(request.secret), SecretStr(request.password)
        return user_to_proto(await self._accounts.bootstrap(secret, request.username, password, self._caller(context)))

    @override
    async def Register(self, request: pb.RegisterRequest, context: Context) -> pb.User:
        """Creates a user for whoever asks."""
        password = SecretStr(request.password)
        return user_to_proto(await self._accounts.register(request.username, password, self._caller(context)))

    @override
    async def Login(self, request: pb.LoginRequest, context: Context) -> pb.TokenPair:
        """Begins a session."""
        password = SecretStr(request.password)
        session = await self._sessions.log_in(request.username, password, request.scopes, self._caller(context))
        return session_to_proto(session)

    @override
    async def Refresh(self, request: pb.RefreshRequest, context: Context) -> pb.TokenPair:
        """Carries a session on."""
        token = SecretStr(request.refresh_token)
        return session_to_proto(await self._sessions.refresh(token, self._caller(context), scopes=request.scopes))

    @override
    async def Logout(self, request: pb.LogoutRequest, context: Context) -> Empty:
        """Ends a session."""
        client_id, caller = FIRST_PARTY, self._caller(context)
        if request.client_id or request.client_secret:
            secret = SecretStr(request.client_secret)
            client_id = (await self._service_tokens.authenticate(request.client_id, secret, caller)).id
        token = SecretStr(request.refresh_token)
        await self._sessions.log_out(token, caller, client_id, everywhere=request.everywhere)
        return Empty()

    @override
    async def RevokeFamily(self, request: pb.RevokeFamilyRequest, context: Context) -> Empty:
        """Ends a session by its id."""
        principal = _principal()
        if ADMIN in principal.roles:
            await self._sessions.revoke(request.family_id, await self._administrator(context))
        else:
            await self._sessions.revoke(request.family_id, self._caller(context), owner=principal.subject)
        return Empty()

    @override
    async def Introspect(self, request: pb.IntrospectRequest, context: Context) -> pb.IntrospectResponse:
        """Says what a token proves."""
        return introspection_to_proto(await self._tokens.introspect(SecretStr(request.token)))

    @override
    async def IssueServiceToken(self, request: pb.IssueServiceTokenRequest, context: Context) -> pb.ServiceToken:
        """Gives a client a token."""
        secret = SecretStr(request.client_secret)
        issued = await self._service_tokens.issue(request.client_id, secret, request.scopes, self._caller(context))
        return service_token_to_proto(issued)

    @override
    async def ChangePassword(self, request: pb.ChangePasswordRequest, context: Context) -> Empty:
        """Gives the caller another password."""
        current, wanted = SecretStr(request.current_password), SecretStr(request.new_password)
        principal, caller = _principal(), self._caller(context)
        await self._accounts.change_password(
            principal.subject, current, wanted, caller, keep=request.family_id, session=principal.session_id
        )
        return Empty()

    @override
    async def GetUser(self, request: pb.GetUserRequest, context: Context) -> pb.User:
        """Returns the caller, or for an administrator anybody."""
        principal = _principal()
        wanted = principal.subject if request.id == ME else request.id
        if wanted != principal.subject:
            if ADMIN not in principal.roles:
                raise NotFoundError("there is no such user, or none that you may see")
            await self._administrator(context)
        return user_to_proto(await self._accounts.get(wanted))

    @override
    async def ListUsers(self, request: pb.ListUsersRequest, context: Context) -> pb.ListUsersResponse:
        """Returns a page."""
        await self._administrator(context)
        users, token = await self._pages.page(request.page_token, request.page_size)
        return pb.ListUsersResponse(users=map(user_to_proto, users), next_page_token=token)

    @override
    async def CreateUser(self, request: pb.CreateUserRequest, context: Context) -> pb.User:
        """Creates a user with roles."""
        password, caller = SecretStr(request.password), await self._administrator(context)
        return user_to_proto(await self._accounts.create(request.username, password, request.roles, caller))

    @override
    async def SetRoles(self, request: pb.SetRolesRequest, context: Context) -> pb.User:
        """Gives a user other roles."""
        caller = await self._administrator(context)
        return user_to_proto(await self._accounts.set_roles(request.id, request.roles, request.etag, caller))

    @override
    async def SetDisabled(self, request: pb.SetDisabledRequest, context: Context) -> pb.User:
        """Says whether a user may log in."""
        caller, disabled = await self._administrator(context), request.disabled
        user = await self._accounts.set_disabled(request.id, request.etag, caller, disabled=disabled)
        return user_to_proto(user)

    @override
    async def CreateClient(self, request: pb.CreateClientRequest, context: Context) -> pb.ClientSecret:
        """Creates a client."""
        caller = await self._administrator(context)
        secret = await self._clients.create(request.client_id, request.roles, request.scopes, caller)
        return pb.ClientSecret(client_id=request.client_id, client_secret=secret.get_secret_value())

    @override
    async def DeleteClient(self, request: pb.DeleteClientRequest, context: Context) -> Empty:
        """Deletes a client."""
        await self._clients.delete(request.client_id, await self._administrator(context))
        return Empty()

    @override
    async def RotateSigningKey(self, request: pb.RotateSigningKeyRequest, context: Context) -> pb.SigningKey:
        """Makes the next signing key."""
        return signing_key_to_proto(*await self._keys.rotate(await self._administrator(context)))

    def _caller(self, context: Context) -> Caller:
        principal = current_principal()
        actor = "" if principal is None else principal.subject
        return Caller(client_address(context, behind_mesh=self._behind_mesh), actor)

    async def _administrator(self, context: Context) -> Caller:
        await self._administrators.require(_principal())
        return self._caller(context)


def _principal() -> Principal:
    principal = current_principal()
    if principal is None:  # where no issuer is trusted, nobody is anybody
        raise UnauthorizedError("this method needs a token, and this service was told to ask for none")
    return principal
