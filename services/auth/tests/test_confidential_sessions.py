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
    async with build(settings_in(tmp_path, password_grant=True)) as application, calling(application) as auth:
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


async def test_the_client_ends_it_with_its_secret(begun: Begun) -> None:
    await begun.auth.Logout(begun.logout("shop", begun.secrets["shop"]))

    assert not await begun.goes_on()
    # What has ended already is no error, whoever says it.
    await begun.auth.Logout(begun.logout())
