"""HTTP and gRPC as one process serves them: what is begun on one side counts on the other, and both end together."""

import asyncio
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import httpx
import pytest
from oauth_server import caller

from auth import main
from localmesh import child, ports
from meshwork.auth.v1 import auth_service_pb2 as pb
from meshwork.auth.v1.auth_service_pb2_grpc import AuthServiceStub

if TYPE_CHECKING:  # there is no such class at run time
    from meshwork.auth.v1.auth_service_pb2_grpc import AuthServiceAsyncStub

PASSWORD = "seven ducks in a quiet row"
LOGIN = {"grant_type": "password", "username": "alice", "password": PASSWORD}


class Place:
    """Where a service of a test serves."""

    def __init__(self) -> None:
        self.grpc, self.http = ports.free_port(), ports.free_port()
        self.target, self.url = f"127.0.0.1:{self.grpc}", f"http://127.0.0.1:{self.http}"

    def settings(self, **others: str) -> dict[str, str]:
        return {
            "AUTH_GRPC__PORT": str(self.grpc),
            "AUTH_HTTP__PORT": str(self.http),
            "AUTH_AUTH__ISSUER": self.url,
            "AUTH_AUTH__AUDIENCE": "meshwork",
            "AUTH_REGISTRATION": "true",
            "AUTH_PASSWORD_GRANT": "true",
            **others,
        }


@pytest.fixture
def place() -> Place:
    return Place()


@asynccontextmanager
async def serving(place: Place, folder: Path) -> AsyncIterator["AuthServiceAsyncStub"]:
    """Serve, with a user alice."""
    async with child.serving(main.__name__, place.target, folder, **place.settings()) as channel:
        auth = AuthServiceStub(channel)
        await auth.Register(pb.RegisterRequest(username="alice", password=PASSWORD))
        yield auth


async def test_a_session_is_one_whichever_way_it_is_spoken_of(tmp_path: Path, place: Place) -> None:
    async with serving(place, tmp_path) as auth, caller(base_url=place.url) as http:
        had = (await http.post("/oauth2/token", data=LOGIN)).json()
        bearer = (("authorization", f"Bearer {had['access_token']}"),)
        assert (await auth.GetUser(pb.GetUserRequest(id="me"), metadata=bearer)).username == "alice"

        pair = await auth.Refresh(pb.RefreshRequest(refresh_token=had["refresh_token"]))
        revoked = await http.post("/oauth2/revoke", data={"token": pair.refresh_token})
        assert revoked.status_code == 200
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await auth.Refresh(pb.RefreshRequest(refresh_token=pair.refresh_token))
        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_logins_under_way_are_answered_when_the_service_is_asked_to_stop(tmp_path: Path, place: Place) -> None:
    settings = place.settings(AUTH_GRPC__LAME_DUCK_SECONDS="0.5", AUTH_PASSWORD_PASSES="20")
    process = await child.start(main.__name__, tmp_path, **settings)
    try:
        async with grpc.aio.insecure_channel(place.target) as channel, caller() as http:
            await child.health_is(child.SERVING, channel)
            await AuthServiceStub(channel).Register(pb.RegisterRequest(username="alice", password=PASSWORD))
            logins = [asyncio.create_task(http.post(f"{place.url}/oauth2/token", data=LOGIN)) for _ in range(8)]
            # Two are worked on at a time: most of them end in the drain, after the lame duck.
            await asyncio.wait(logins, return_when=asyncio.FIRST_COMPLETED)
            process.send_signal(signal.SIGTERM)
            replies = await asyncio.gather(*logins)
            assert {reply.status_code for reply in replies} == {200}
            with pytest.raises(httpx.ConnectError):
                await stopped(http, place.url)
        status, lines = await child.end_of(process)
        assert status == 0, lines
        assert PASSWORD not in "".join(lines)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def stopped(http: httpx.AsyncClient, url: str) -> None:
    async with asyncio.timeout(child.ENDS_WITHIN):
        while True:
            await http.get(f"{url}/.well-known/jwks.json")


@pytest.mark.parametrize("issuer", ["meshwork", "https://auth.example/?tenant=1"])
async def test_an_issuer_that_nobody_can_look_up_is_refused(tmp_path: Path, place: Place, issuer: str) -> None:
    process = await child.start(main.__name__, tmp_path, **place.settings(AUTH_AUTH__ISSUER=issuer))
    status, lines = await child.end_of(process)

    assert status == 1
    assert f"the issuer {issuer} must be a URL such as https://auth.example" in child.reason(lines)


async def test_a_taken_http_port_is_told_and_grpc_is_not_served_alone(tmp_path: Path, place: Place) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        process = await child.start(main.__name__, tmp_path, **place.settings(AUTH_HTTP__PORT=str(port)))
        status, lines = await child.end_of(process)

    assert status == 1
    assert child.reason(lines).startswith(f"port {port} on 127.0.0.1 is taken by another process: stop it")
