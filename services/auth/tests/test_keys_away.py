"""The signing keys out of reach: nothing new is signed, nobody is logged out, and it mends by itself."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest
import pytest_asyncio
from pydantic import SecretStr
from served import BOOTSTRAP, calling, settings_in

from auth.main import build
from grpc_common.application import Application
from grpc_common.health.report import DependencyState, Health
from grpc_common.health.servicer import HealthServicer
from grpc_common.testing import bearer
from localmesh.parts.openbao import OpenBao
from localmesh.transit import SigningRole
from meshwork.auth.v1 import auth_service_pb2 as pb

if TYPE_CHECKING:  # there is no such class at run time
    from meshwork.auth.v1.auth_service_pb2_grpc import AuthServiceAsyncStub as Stub

PASSWORD = "seven ducks in a quiet row"


@pytest_asyncio.fixture
async def application(own_openbao: OpenBao, tmp_path: Path) -> AsyncIterator[Application]:
    """The service with its keys in an OpenBao that the test may stop."""
    wrapped = tmp_path / "wrapped-secret-id"

    def set_up() -> str:
        role = SigningRole(own_openbao.client(), "auth", "access")
        role.set_up()
        role.hand_over(wrapped)
        return role.role_id()

    vault = {
        "vault_url": own_openbao.address,
        "vault_role_id": SecretStr(await asyncio.to_thread(set_up)),
        "vault_wrapped_secret_id_file": wrapped,
    }
    async with build(settings_in(tmp_path, registration=True, **vault)) as application:
        yield application


@pytest_asyncio.fixture
async def auth(application: Application) -> AsyncIterator["Stub"]:
    """A client of it."""
    async with calling(application) as stub:
        yield stub


async def status_of(call: Any) -> str:
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error.code().name
    return "OK"


async def test_nobody_is_logged_out_while_they_are_away(auth: "Stub", own_openbao: OpenBao) -> None:
    await auth.BootstrapAdmin(pb.BootstrapAdminRequest(secret=BOOTSTRAP, username="root", password=PASSWORD))
    login = pb.LoginRequest(username="root", password=PASSWORD)
    tokens = await auth.Login(login)
    refresh = pb.RefreshRequest(refresh_token=tokens.refresh_token)
    await own_openbao.stop()

    assert await status_of(auth.Login(login)) == "UNAVAILABLE"
    assert await status_of(auth.Refresh(refresh)) == "UNAVAILABLE"
    assert await status_of(
        auth.RotateSigningKey(pb.RotateSigningKeyRequest(), metadata=bearer(tokens.access_token))
    ) == ("UNAVAILABLE")
    me = await auth.GetUser(pb.GetUserRequest(id="me"), metadata=bearer(tokens.access_token))
    assert me.username == "root"

    await own_openbao.start()
    async with asyncio.timeout(60):
        while await status_of(auth.Refresh(refresh)) != "OK":  # noqa: ASYNC110  # nobody says when it has mended
            await asyncio.sleep(0.1)
    assert (await auth.Login(login)).access_token


async def test_an_engine_that_is_gone_is_no_fault_of_the_caller_nor_of_the_service(
    auth: "Stub", own_openbao: OpenBao
) -> None:
    await auth.BootstrapAdmin(pb.BootstrapAdminRequest(secret=BOOTSTRAP, username="root", password=PASSWORD))
    login = pb.LoginRequest(username="root", password=PASSWORD)
    tokens = await auth.Login(login)
    client = await asyncio.to_thread(own_openbao.client)
    await asyncio.to_thread(client.sys.disable_secrets_engine, "transit")

    assert await status_of(auth.Login(login)) == "UNAVAILABLE"
    assert await status_of(auth.Refresh(pb.RefreshRequest(refresh_token=tokens.refresh_token))) == "UNAVAILABLE"
    assert await status_of(
        auth.RotateSigningKey(pb.RotateSigningKeyRequest(), metadata=bearer(tokens.access_token))
    ) == ("UNAVAILABLE")
    assert (await auth.GetUser(pb.GetUserRequest(id="me"), metadata=bearer(tokens.access_token))).username == "root"


@pytest.mark.parametrize("made_anew", [True, False])
async def test_a_key_that_was_destroyed_and_made_anew_signs_at_once_and_the_old_one_proves_nothing(
    auth: "Stub", own_openbao: OpenBao, made_anew: bool
) -> None:
    await auth.BootstrapAdmin(pb.BootstrapAdminRequest(secret=BOOTSTRAP, username="root", password=PASSWORD))
    login, me = pb.LoginRequest(username="root", password=PASSWORD), pb.GetUserRequest(id="me")
    old = await auth.Login(login)
    assert (await auth.GetUser(me, metadata=bearer(old.access_token))).username == "root"

    def replace_key() -> None:
        transit = own_openbao.client().secrets.transit
        transit.update_key_configuration("access", deletion_allowed=True)
        transit.delete_key("access")
        if made_anew:
            transit.create_key("access", key_type="ecdsa-p256")

    await asyncio.to_thread(replace_key)
    new = await auth.Refresh(pb.RefreshRequest(refresh_token=old.refresh_token))

    assert (await auth.GetUser(me, metadata=bearer(new.access_token))).username == "root"
    assert await status_of(auth.GetUser(me, metadata=bearer(old.access_token))) == "UNAUTHENTICATED"
    made = await auth.RotateSigningKey(pb.RotateSigningKeyRequest(), metadata=bearer(new.access_token))
    assert made.key_id
    assert (await auth.GetUser(me, metadata=bearer((await auth.Login(login)).access_token))).username == "root"


async def test_health_tells_that_they_are_away_and_the_service_goes_on(
    application: Application, own_openbao: OpenBao
) -> None:
    checks = [replace(check, interval=0.05) for check in application.dependencies]
    assert "signing keys" in {check.name for check in checks}
    async with HealthServicer(checks) as health:
        await _believed(health, DependencyState.UP)
        await own_openbao.stop()
        await _believed(health, DependencyState.DOWN)
        assert health.report().health is Health.DEGRADED  # which is SERVING to clients

        await own_openbao.start()
        await _believed(health, DependencyState.UP)


async def _believed(health: HealthServicer, state: DependencyState) -> None:
    """Wait until health takes the signing keys to be so, and everything else to be up."""
    async with asyncio.timeout(60):
        while True:
            found = {each.name: each.state for each in health.report().dependencies}
            if found == {**dict.fromkeys(found, DependencyState.UP), "signing keys": state}:
                return
            await asyncio.sleep(0.05)
