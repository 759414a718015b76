"""Sessions that a client with a secret has begun: only who has that secret, or is the user, ends them."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import httpx
import pytest
import pytest_asyncio
from served import BOOTSTRAP, calling, settings_in

from auth.main import build
from grpc_common.testing import bearer
from meshwork.auth.v1 import auth_service_pb2 as pb

if TYPE_CHECKING:  # there is no such class at run time
    from meshwork.auth.v1.auth_service_pb2_grpc import AuthServiceAsyncStub as Stub

PASSWORD = "seven ducks in a quiet row"


@dataclass(frozen=True, slots=True)
class Begun:
    """A session of root with the client `shop`, the secrets of two clients, and the ways in."""

    auth: "Stub"
    http: httpx.AsyncClient
    refresh_token: str
    secrets: dict[str, str]
    root: Any

    def logout(self, client_id: str = "", secret: str = "", *, everywhere: bool = False) -> pb.LogoutRequest:
        return pb.LogoutRequest(
            refresh_token=self.refresh_token, client_id=client_id, client_secret=secret, everywhere=everywhere
        )

    async def goes_on(self) -> bool:
        """Whether the client can carry it on, which it does."""
        form = {"grant_type": "refresh_token", "refresh_token": self.refresh_token}
        reply = await self.http.post("/oauth2/token", data=form, auth=("shop", self.secrets["shop"]))
        return reply.status_code == 200


@pytest_asyncio.fixture
async def begun(tmp_path: Path) -> AsyncIterator[Begun]:
    async with (
        build(settings_in(tmp_path, password_grant=True, refresh_grace=0.0)) as application,
        calling(application) as auth,
    ):
        await auth.BootstrapAdmin(pb.BootstrapAdminRequest(secret=BOOTSTRAP, username="root", password=PASSWORD))
        root = bearer((await auth.Login(pb.LoginRequest(username="root", password=PASSWORD))).access_token)
        secrets = {}
        for client_id in ("shop", "other"):
            made = await auth.CreateClient(pb.CreateClientRequest(client_id=client_id), metadata=root)
            secrets[client_id] = made.client_secret
        transport = httpx.ASGITransport(application.http)
        async with httpx.AsyncClient(transport=transport, base_url="http://auth.test") as http:
            form = {"grant_type": "password", "username": "root", "password": PASSWORD}
            reply = await http.post("/oauth2/token", data=form, auth=("shop", secrets["shop"]))
            yield Begun(auth, http, reply.json()["refresh_token"], secrets, root)


@pytest.mark.parametrize("everywhere", [False, True])
@pytest.mark.parametrize(
    "proof",
    ["nothing", "the id alone", "a wrong secret", "another client", "the first party", "a secret without an id"],
)
async def test_who_does_not_prove_to_be_the_client_ends_nothing(begun: Begun, proof: str, everywhere: bool) -> None:
    given = {
        "nothing": (),
        "the id alone": ("shop",),
        "a wrong secret": ("shop", "guessed"),
        "another client": ("other", begun.secrets["other"]),
        "the first party": ("meshwork",),
        "a secret without an id": ("", begun.secrets["shop"]),
    }[proof]

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await begun.auth.Logout(begun.logout(*given, everywhere=everywhere))

    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert await begun.goes_on()
    assert (await begun.auth.GetUser(pb.GetUserRequest(id="me"), metadata=begun.root)).username == "root"


@pytest.mark.parametrize("proof", ["nothing", "another client"])
async def test_a_used_up_token_in_other_hands_ends_nothing(begun: Begun, proof: str) -> None:
    """Whoever found one in a log could otherwise end the session by a refresh, where a logout would not."""
    used, form = begun.refresh_token, {"grant_type": "refresh_token"}
    shop = ("shop", begun.secrets["shop"])
    reply = await begun.http.post("/oauth2/token", data={**form, "refresh_token": used}, auth=shop)
    newest = {**form, "refresh_token": reply.json()["refresh_token"]}

    if proof == "nothing":
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await begun.auth.Refresh(pb.RefreshRequest(refresh_token=used))
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    else:
        other = ("other", begun.secrets["other"])
        refused = await begun.http.post("/oauth2/token", data={**form, "refresh_token": used}, auth=other)
        assert (refused.status_code, refused.json()["error"]) == (400, "invalid_grant")

    assert (await begun.http.post("/oauth2/token", data=newest, auth=shop)).status_code == 200
    # In the hands of the client itself it has been stolen from there.
    again = await begun.http.post("/oauth2/token", data={**form, "refresh_token": used}, auth=shop)
    assert (again.status_code, again.json()["error"]) == (400, "invalid_grant")
    assert (await begun.http.post("/oauth2/token", data=newest, auth=shop)).status_code == 400


async def test_the_client_ends_it_with_its_secret(begun: Begun) -> None:
    await begun.auth.Logout(begun.logout("shop", begun.secrets["shop"]))

    assert not await begun.goes_on()
    # What has ended already is no error, whoever says it.
    await begun.auth.Logout(begun.logout())
