"""Each security event says what happened to whom, who did it, from where, and why."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import grpc
import httpx
import pytest
import pytest_asyncio
from oauth_server import PASSWORD as ALICES
from oauth_server import STOCK_SECRET, OAuth
from served import BOOTSTRAP, serving, settings_in
from told import told

from auth.audit import Kind, SecurityEvent
from auth.end_sessions import end_sessions
from auth.settings import IssuerSettings
from grpc_common.database.engine import open_engine
from grpc_common.settings import GRPCServerSettings
from meshwork.auth.v1 import auth_service_pb2 as pb

if TYPE_CHECKING:  # there is no such class at run time
    from meshwork.auth.v1.auth_service_pb2_grpc import AuthServiceAsyncStub as Stub

PASSWORD, OTHER = "seven ducks in a quiet row", "eleven geese on a windy hill"
ROOTS, ALICE_AT, ELSEWHERE = "198.51.100.1", "198.51.100.2", "203.0.113.3"


class Who(NamedTuple):
    """What an event says, and what it leaves empty."""

    kind: Kind
    subject: str
    actor: str
    address: str
    reason: str = ""
    client_id: str = ""


def who(event: SecurityEvent) -> Who:
    return Who(event.kind, event.subject, event.actor, event.address, event.reason, event.client_id)


def at(address: str, token: str = "") -> tuple[tuple[str, str], ...]:
    """The metadata of a call from that address, as the mesh tells it."""
    return (("x-forwarded-for", address), *((("authorization", f"Bearer {token}"),) if token else ()))


class Auth:
    """The service with root and alice, each at an address of their own."""

    def __init__(self, stub: "Stub", folder: Path, root: str, alice: str) -> None:
        self.stub, self.root, self.alice = stub, root, alice
        self._folder = folder
        self._seen = 0

    async def log_in(self, name: str, address: str, password: str = PASSWORD) -> pb.TokenPair:
        return await self.stub.Login(pb.LoginRequest(username=name, password=password), metadata=at(address))

    async def as_root(self) -> tuple[tuple[str, str], ...]:
        return at(ROOTS, (await self.log_in("root", ROOTS)).access_token)

    async def end_sessions(self) -> None:
        await end_sessions(settings_in(self._folder))

    async def news(self) -> Sequence[Who]:
        """What was written since it was asked last."""
        settings = settings_in(self._folder)
        async with open_engine(settings.database_url.get_secret_value(), settings.database_limits, "test") as engine:
            events = await told(engine)
        fresh, self._seen = events[self._seen :], len(events)
        return list(map(who, fresh))


@pytest_asyncio.fixture
async def auth(tmp_path: Path) -> AsyncIterator[Auth]:
    behind_mesh = GRPCServerSettings(enabled=True, port=0, plaintext="behind-mesh")
    issuer = IssuerSettings(issuer="https://auth.example")
    async with serving(tmp_path, registration=True, refresh_grace=0.0, grpc=behind_mesh, auth=issuer) as stub:
        request = pb.BootstrapAdminRequest(secret=BOOTSTRAP, username="root", password=PASSWORD)
        root = await stub.BootstrapAdmin(request, metadata=at(ROOTS))
        alice = await stub.Register(pb.RegisterRequest(username="alice", password=PASSWORD), metadata=at(ALICE_AT))
        yield Auth(stub, tmp_path, root.id, alice.id)


async def refused(call: Awaitable[Any]) -> None:
    with pytest.raises(grpc.aio.AioRpcError):
        await call


async def _first_admin(auth: Auth) -> list[Who]:
    wrong = pb.BootstrapAdminRequest(secret="x", username="mallory", password=PASSWORD)
    await refused(auth.stub.BootstrapAdmin(wrong, metadata=at(ELSEWHERE)))
    used = pb.BootstrapAdminRequest(secret=BOOTSTRAP, username="mallory", password=PASSWORD)
    await refused(auth.stub.BootstrapAdmin(used, metadata=at(ELSEWHERE)))
    return [
        Who(Kind.BOOTSTRAPPED, auth.root, "", ROOTS),
        Who(Kind.USER_CREATED, auth.alice, "", ALICE_AT, "registered"),
        Who(Kind.BOOTSTRAP_REFUSED, "", "", ELSEWHERE, "wrong_secret"),
        Who(Kind.BOOTSTRAP_REFUSED, "", "", ELSEWHERE, "used_secret"),
    ]


async def _logins(auth: Auth) -> list[Who]:
    await auth.log_in("alice", ALICE_AT)
    await refused(auth.log_in("alice", ELSEWHERE, OTHER))
    await refused(auth.log_in("nobody", ELSEWHERE))
    return [
        Who(Kind.LOGGED_IN, auth.alice, auth.alice, ALICE_AT, client_id="meshwork"),
        Who(Kind.LOGIN_FAILED, auth.alice, "", ELSEWHERE, "wrong_password", "meshwork"),
        Who(Kind.LOGIN_FAILED, "", "", ELSEWHERE, "unknown_user", "meshwork"),
    ]


async def _log_out(auth: Auth, *, everywhere: bool = False) -> list[Who]:
    here, _ = await auth.log_in("alice", ALICE_AT), await auth.log_in("alice", ALICE_AT)
    await auth.news()
    request = pb.LogoutRequest(refresh_token=here.refresh_token, everywhere=everywhere)
    await auth.stub.Logout(request, metadata=at(ELSEWHERE))
    ended = Who(Kind.SESSION_REVOKED, auth.alice, auth.alice, ELSEWHERE, "logged_out", "meshwork")
    return [ended, ended] if everywhere else [ended]


async def _log_out_everywhere(auth: Auth) -> list[Who]:
    return await _log_out(auth, everywhere=True)


async def _reuse(auth: Auth) -> list[Who]:
    tokens = await auth.log_in("alice", ALICE_AT)
    refresh = pb.RefreshRequest(refresh_token=tokens.refresh_token)
    await auth.stub.Refresh(refresh, metadata=at(ALICE_AT))
    await auth.news()
    await refused(auth.stub.Refresh(refresh, metadata=at(ELSEWHERE)))
    return [Who(Kind.SESSION_REVOKED, auth.alice, "", ELSEWHERE, "reused", "meshwork")]


async def _end_by_id(auth: Auth) -> list[Who]:
    here, there = await auth.log_in("alice", ALICE_AT), await auth.log_in("alice", ALICE_AT)
    admin = await auth.as_root()
    await auth.news()
    own = pb.RevokeFamilyRequest(family_id=there.family_id)
    await auth.stub.RevokeFamily(own, metadata=at(ALICE_AT, here.access_token))
    await auth.stub.RevokeFamily(pb.RevokeFamilyRequest(family_id=here.family_id), metadata=admin)
    return [
        Who(Kind.SESSION_REVOKED, auth.alice, auth.alice, ALICE_AT, "logged_out", "meshwork"),
        Who(Kind.SESSION_REVOKED, auth.alice, auth.root, ROOTS, "administrator", "meshwork"),
    ]


async def _password(auth: Auth) -> list[Who]:
    tokens = await auth.log_in("alice", ALICE_AT)
    await auth.news()
    change = pb.ChangePasswordRequest(current_password=PASSWORD, new_password=OTHER)
    wrong = pb.ChangePasswordRequest(current_password=OTHER, new_password=OTHER)
    mine = at(ALICE_AT, tokens.access_token)
    await refused(auth.stub.ChangePassword(wrong, metadata=mine))
    await auth.stub.ChangePassword(change, metadata=mine)
    return [
        Who(Kind.LOGIN_FAILED, auth.alice, auth.alice, ALICE_AT, "wrong_password"),
        Who(Kind.PASSWORD_CHANGED, auth.alice, auth.alice, ALICE_AT),
        Who(Kind.SESSION_REVOKED, auth.alice, auth.alice, ALICE_AT, "password_changed", "meshwork"),
    ]


async def _administration(auth: Auth) -> list[Who]:
    admin = await auth.as_root()
    create = pb.CreateUserRequest(username="bob", password=PASSWORD, roles=["editor"])
    bob = (await auth.stub.CreateUser(create, metadata=admin)).id
    await auth.log_in("bob", ALICE_AT)
    await auth.news()
    await auth.stub.SetRoles(pb.SetRolesRequest(id=bob), metadata=admin)
    await auth.log_in("bob", ALICE_AT)
    for disabled in (True, False):
        await auth.stub.SetDisabled(pb.SetDisabledRequest(id=bob, disabled=disabled), metadata=admin)
    key = await auth.stub.RotateSigningKey(pb.RotateSigningKeyRequest(), metadata=admin)
    return [
        Who(Kind.ROLES_CHANGED, bob, auth.root, ROOTS),
        Who(Kind.SESSION_REVOKED, bob, auth.root, ROOTS, "roles_removed", "meshwork"),
        Who(Kind.LOGGED_IN, bob, bob, ALICE_AT, client_id="meshwork"),
        Who(Kind.USER_DISABLED, bob, auth.root, ROOTS),
        Who(Kind.SESSION_REVOKED, bob, auth.root, ROOTS, "disabled", "meshwork"),
        Who(Kind.USER_ENABLED, bob, auth.root, ROOTS),
        Who(Kind.KEY_ROTATED, "", auth.root, ROOTS, key.key_id),
    ]


async def _users_are_created(auth: Auth) -> list[Who]:
    admin = await auth.as_root()
    await auth.news()
    bob = await auth.stub.CreateUser(pb.CreateUserRequest(username="bob", password=PASSWORD), metadata=admin)
    return [Who(Kind.USER_CREATED, bob.id, auth.root, ROOTS)]


async def _clients(auth: Auth) -> list[Who]:
    admin = await auth.as_root()
    await auth.news()
    secret = (await auth.stub.CreateClient(pb.CreateClientRequest(client_id="robot"), metadata=admin)).client_secret
    right = pb.IssueServiceTokenRequest(client_id="robot", client_secret=secret)
    await auth.stub.IssueServiceToken(right, metadata=at(ELSEWHERE))
    wrong = pb.IssueServiceTokenRequest(client_id="robot", client_secret="guess")
    await refused(auth.stub.IssueServiceToken(wrong, metadata=at(ELSEWHERE)))
    unknown = pb.IssueServiceTokenRequest(client_id="nobody", client_secret="guess")
    await refused(auth.stub.IssueServiceToken(unknown, metadata=at(ELSEWHERE)))
    await auth.stub.DeleteClient(pb.DeleteClientRequest(client_id="robot"), metadata=admin)
    return [
        Who(Kind.CLIENT_CREATED, "robot", auth.root, ROOTS, client_id="robot"),
        Who(Kind.SERVICE_TOKEN_ISSUED, "robot", "robot", ELSEWHERE, client_id="robot"),
        Who(Kind.CLIENT_REFUSED, "robot", "", ELSEWHERE, "wrong_secret", "robot"),
        Who(Kind.CLIENT_REFUSED, "", "", ELSEWHERE, "unknown_client"),
        Who(Kind.CLIENT_DELETED, "robot", auth.root, ROOTS, client_id="robot"),
    ]


async def _by_command(auth: Auth) -> list[Who]:
    await auth.end_sessions()
    return [Who(Kind.ALL_SESSIONS_ENDED, "", "", "", "command")]  # who has the database's password, proves nothing here


WAYS: tuple[Callable[[Auth], Awaitable[list[Who]]], ...] = (
    *(_first_admin, _logins, _log_out, _log_out_everywhere, _reuse, _end_by_id, _password),
    *(_administration, _users_are_created, _clients, _by_command),
)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__.strip("_"))
async def test_an_event_says_who_did_it_to_whom_from_where_and_why(
    auth: Auth, way: Callable[[Auth], Awaitable[list[Who]]]
) -> None:
    if way is not _first_admin:
        await auth.news()
    expected = await way(auth)
    assert await auth.news() == expected


def test_no_kind_is_left_out() -> None:
    """Whoever adds a kind says here who makes it happen, to whom, from where and why."""
    said = Path(__file__).read_text()
    assert [kind for kind in Kind if f"Who(Kind.{kind.name}," not in said] == []


LOGIN = {"grant_type": "password", "username": "alice", "password": ALICES}
STOCK = httpx.BasicAuth("stock", STOCK_SECRET)


async def test_over_http_as_well(oauth: OAuth, http: httpx.AsyncClient) -> None:
    first = await http.post(oauth.token, data=LOGIN)
    await http.post(oauth.revoke, data={"token": first.json()["access_token"]})
    await http.post(oauth.revoke, data={"token": first.json()["refresh_token"]})
    second = await http.post(oauth.token, data=LOGIN, auth=STOCK)
    await http.post(oauth.token, data={**LOGIN, "password": "wrong"}, auth=STOCK)
    await http.post(oauth.revoke, data={"token": second.json()["access_token"]}, auth=STOCK)
    await http.post(oauth.revoke, data={"token": second.json()["refresh_token"]}, auth=STOCK)
    await http.post(oauth.token, data={"grant_type": "client_credentials"}, auth=STOCK)

    happened = [who(event) for event in await told(oauth.engine) if event.actor != "somebody"]
    alice, here = happened[0].subject, "127.0.0.1"
    assert happened == [
        Who(Kind.LOGGED_IN, alice, alice, here, client_id="meshwork"),
        Who(Kind.TOKEN_REVOKED, alice, alice, here, client_id="meshwork"),
        Who(Kind.SESSION_REVOKED, alice, alice, here, "logged_out", "meshwork"),
        Who(Kind.LOGGED_IN, alice, alice, here, client_id="stock"),
        Who(Kind.LOGIN_FAILED, alice, "", here, "wrong_password", "stock"),
        Who(Kind.TOKEN_REVOKED, alice, "stock", here, client_id="stock"),
        Who(Kind.SESSION_REVOKED, alice, "stock", here, "logged_out", "stock"),
        Who(Kind.SERVICE_TOKEN_ISSUED, "stock", "stock", here, client_id="stock"),
    ]
