"""Whatever matters to security leaves its event, and what is taken back is refused by the service itself."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest
import pytest_asyncio
from served import BOOTSTRAP, serving, settings_in
from told import told

from auth.audit import Kind, SecurityEvent
from grpc_common.database.engine import open_engine
from grpc_common.testing import bearer
from meshwork.auth.v1 import auth_service_pb2 as pb

if TYPE_CHECKING:  # there is no such class at run time
    from meshwork.auth.v1.auth_service_pb2_grpc import AuthServiceAsyncStub as Stub

PASSWORD, OTHER = "seven ducks in a quiet row", "eleven geese on a windy hill"


@pytest_asyncio.fixture
async def auth(tmp_path: Path) -> AsyncIterator["Stub"]:
    async with serving(tmp_path, registration=True) as stub:
        yield stub


async def events(folder: Path) -> Sequence[SecurityEvent]:
    """What the service has written to its outbox, told or not."""
    settings = settings_in(folder)
    async with open_engine(settings.database_url.get_secret_value(), settings.database_limits, "test") as engine:
        return await told(engine)


async def log_in(auth: "Stub", username: str, password: str = PASSWORD) -> pb.TokenPair:
    return await auth.Login(pb.LoginRequest(username=username, password=password))


async def refused(call: Any) -> None:
    with pytest.raises(grpc.aio.AioRpcError):
        await call


async def test_every_change_leaves_its_event(auth: "Stub", tmp_path: Path) -> None:
    bootstrap = pb.BootstrapAdminRequest(secret=BOOTSTRAP, username="root", password=PASSWORD)
    await refused(auth.BootstrapAdmin(pb.BootstrapAdminRequest(secret="x", username="root", password=PASSWORD)))
    root = await auth.BootstrapAdmin(bootstrap)
    admin = bearer((await log_in(auth, "root")).access_token)
    alice = await auth.Register(pb.RegisterRequest(username="alice", password=PASSWORD))
    await auth.CreateUser(pb.CreateUserRequest(username="bob", password=PASSWORD, roles=["editor"]), metadata=admin)
    await refused(log_in(auth, "alice", OTHER))
    tokens = await log_in(auth, "alice")
    change = pb.ChangePasswordRequest(current_password=PASSWORD, new_password=OTHER, family_id=tokens.family_id)
    await auth.ChangePassword(change, metadata=bearer(tokens.access_token))
    await auth.SetRoles(pb.SetRolesRequest(id=alice.id, roles=["editor"]), metadata=admin)
    await auth.Logout(pb.LogoutRequest(refresh_token=tokens.refresh_token))
    for disabled in (True, False):
        await auth.SetDisabled(pb.SetDisabledRequest(id=alice.id, disabled=disabled), metadata=admin)
    client = await auth.CreateClient(pb.CreateClientRequest(client_id="robot", roles=["editor"]), metadata=admin)
    await auth.IssueServiceToken(pb.IssueServiceTokenRequest(client_id="robot", client_secret=client.client_secret))
    await refused(auth.IssueServiceToken(pb.IssueServiceTokenRequest(client_id="robot", client_secret="guess")))
    await auth.DeleteClient(pb.DeleteClientRequest(client_id="robot"), metadata=admin)
    await auth.RotateSigningKey(pb.RotateSigningKeyRequest(), metadata=admin)

    happened = await events(tmp_path)
    assert [event.kind for event in happened] == [
        Kind.BOOTSTRAP_REFUSED,
        Kind.BOOTSTRAPPED,
        Kind.LOGGED_IN,
        Kind.USER_CREATED,
        Kind.USER_CREATED,
        Kind.LOGIN_FAILED,
        Kind.LOGGED_IN,
        Kind.PASSWORD_CHANGED,
        Kind.ROLES_CHANGED,
        Kind.SESSION_REVOKED,
        Kind.USER_DISABLED,
        Kind.USER_ENABLED,
        Kind.CLIENT_CREATED,
        Kind.SERVICE_TOKEN_ISSUED,
        Kind.CLIENT_REFUSED,
        Kind.CLIENT_DELETED,
        Kind.KEY_ROTATED,
    ]
    # Over HTTP only, and by command only.
    assert set(Kind) - {event.kind for event in happened} == {Kind.TOKEN_REVOKED, Kind.ALL_SESSIONS_ENDED}
    by_kind = {event.kind: event for event in happened}
    roles = by_kind[Kind.ROLES_CHANGED]
    assert (roles.subject, roles.actor, roles.roles) == (alice.id, root.id, ("editor",))
    assert by_kind[Kind.CLIENT_CREATED].roles == ("editor",)
    assert by_kind[Kind.LOGIN_FAILED].reason == "wrong_password"
    assert all(event.correlation_id for event in happened)
    for secret in (PASSWORD, OTHER, BOOTSTRAP, client.client_secret, "guess"):
        assert secret not in repr(happened)


@pytest.mark.parametrize("way", ["Logout", "everywhere", "RevokeFamily", "SetDisabled", "SetRoles", "ChangePassword"])
async def test_auth_itself_refuses_what_was_taken_back_without_a_valkey(auth: "Stub", way: str) -> None:
    await auth.BootstrapAdmin(pb.BootstrapAdminRequest(secret=BOOTSTRAP, username="root", password=PASSWORD))
    admin = bearer((await log_in(auth, "root")).access_token)
    request = pb.CreateUserRequest(username="alice", password=PASSWORD, roles=["editor"])
    alice = await auth.CreateUser(request, metadata=admin)
    tokens, other = await log_in(auth, "alice"), await log_in(auth, "alice")
    mine = bearer(tokens.access_token)
    ways = {
        "Logout": lambda: auth.Logout(pb.LogoutRequest(refresh_token=tokens.refresh_token)),
        "everywhere": lambda: auth.Logout(pb.LogoutRequest(refresh_token=other.refresh_token, everywhere=True)),
        "RevokeFamily": lambda: auth.RevokeFamily(
            pb.RevokeFamilyRequest(family_id=tokens.family_id), metadata=bearer(other.access_token)
        ),
        "SetDisabled": lambda: auth.SetDisabled(pb.SetDisabledRequest(id=alice.id, disabled=True), metadata=admin),
        "SetRoles": lambda: auth.SetRoles(pb.SetRolesRequest(id=alice.id, roles=[]), metadata=admin),
        "ChangePassword": lambda: auth.ChangePassword(
            pb.ChangePasswordRequest(current_password=PASSWORD, new_password=OTHER), metadata=bearer(other.access_token)
        ),
    }
    me = pb.GetUserRequest(id="me")
    assert (await auth.GetUser(me, metadata=mine)).id == alice.id

    await ways[way]()

    async with asyncio.timeout(5):
        while await _status(auth.GetUser(me, metadata=mine)) != "UNAUTHENTICATED":  # noqa: ASYNC110  # nobody says when
            await asyncio.sleep(0.02)


async def _status(call: Any) -> str:
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error.code().name
    return "OK"
