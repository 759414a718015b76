"""What the demo does as somebody who logs in: gets tokens, renews them, shows bad ones, and logs out."""

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import grpc
import httpx

from localmesh.demo.findings import Findings, StepFailed, must
from localmesh.demo.refusal import Refusal
from localmesh.development_users import User
from localmesh.forge import Forge
from meshwork.auth.v1 import auth_service_pb2 as pb
from meshwork.items.v1 import items_service_pb2

if TYPE_CHECKING:
    from meshwork.auth.v1.auth_service_pb2_grpc import AuthServiceAsyncStub
    from meshwork.items.v1.items_service_pb2_grpc import ItemServiceAsyncStub

TIMEOUT = 10.0
LONG_AGO = 3600
REFUSED_WITHIN = 5.0
LOOK_EVERY = 0.02
NOBODY = items_service_pb2.GetItemRequest(id="nobody")


class Visit:
    """A session with auth, through the ingress."""

    def __init__(self, auth: "AuthServiceAsyncStub", user: User, findings: Findings) -> None:
        self._auth = auth
        self._user = user
        self._findings = findings
        self._pair = pb.TokenPair()

    @property
    def token(self) -> str:
        """The access token to call with."""
        return self._pair.access_token

    async def log_in(self, rest: httpx.AsyncClient) -> None:
        """Logs in by gRPC, and by REST as well."""
        started = time.perf_counter()
        request = pb.LoginRequest(username=self._user.name, password=self._user.password)
        self._pair = await self._auth.Login(request, timeout=TIMEOUT)
        took = time.perf_counter() - started
        lives = self._pair.access_expires_at.ToSeconds() - time.time()
        self._tell(
            f"logged in as {self._user.name} in {took * 1000:.0f} ms: an access token for {lives / 60:.0f} minutes"
        )
        answer = await rest.post("/v1/auth/login", json={"username": self._user.name, "password": self._user.password})
        must(answer.status_code == httpx.codes.OK, f"logging in by REST answered {answer.status_code}")
        answer = await rest.post("/v1/auth/refresh", json={"refresh_token": answer.json()["refresh_token"]})
        must(answer.status_code == httpx.codes.OK, f"refreshing by REST answered {answer.status_code}")
        self._tell("logged in and refreshed by REST, too")

    async def refresh(self) -> None:
        """Uses the refresh token up; the same once more, as a retry would do, gets the same successor."""
        request = pb.RefreshRequest(refresh_token=self._pair.refresh_token)
        first, again = [await self._auth.Refresh(request, timeout=TIMEOUT) for _ in range(2)]
        must(first.refresh_token != self._pair.refresh_token, "a refresh token was not used up")
        must(first.refresh_token == again.refresh_token, "a repeated refresh had another successor")
        self._pair = first
        self._tell("refreshed, twice with the same refresh token as a retry does: one successor")

    async def show_bad_tokens(self, ways: "dict[str, ItemServiceAsyncStub]", forge: Forge) -> None:
        """An expired token and a foreign one, to items by each of the `ways` to it; all else in them is as in ours."""
        expired = await asyncio.to_thread(forge.changed, self.token, exp=int(time.time()) - LONG_AGO)
        for what, token in (("an expired token", expired), ("a foreign token", forge.foreign(self.token))):
            for way, items in ways.items():
                refusal = await self._refusal(items, token)
                must(refusal.status == "UNAUTHENTICATED", f"{what}, {way}, got {refusal.status} ({refusal.message})")
                self._findings.refusals[f"{what}, {way}"] = refusal

    async def log_out(self, items: "ItemServiceAsyncStub") -> None:
        """Ends the session, after which items is to refuse its tokens, that have long to live, as soon as it hears."""
        before = await self._refusal(items, self.token)
        must(before.status == "NOT_FOUND", f"a good token got {before.status}")
        await self._auth.Logout(pb.LogoutRequest(refresh_token=self._pair.refresh_token), timeout=TIMEOUT)
        started = time.perf_counter()
        while (refusal := await self._refusal(items, self.token)).status != "UNAUTHENTICATED":
            late = time.perf_counter() - started > REFUSED_WITHIN
            must(not late, f"items still takes the token {REFUSED_WITHIN:.0f} s after logging out")
            await asyncio.sleep(LOOK_EVERY)
        took = time.perf_counter() - started
        self._findings.refusals["the token, after logging out"] = refusal
        self._tell(f"logged out: {took * 1000:.0f} ms later items refused the access token")

    async def _refusal(self, items: "ItemServiceAsyncStub", token: str) -> Refusal:
        call: Callable[..., Any] = items.GetItem
        try:
            await call(NOBODY, timeout=TIMEOUT, metadata=(("authorization", f"Bearer {token}"),))
        except grpc.aio.AioRpcError as error:
            return Refusal.of(error)
        raise StepFailed("there is an item that nobody made")

    def _tell(self, line: str) -> None:
        self._findings.sessions.append(line)
