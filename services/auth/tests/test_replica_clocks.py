"""Replicas on machines whose clocks differ by almost a minute: nobody is logged out for it."""

import asyncio
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from pathlib import Path

import grpc
import pytest
import wrong_clock
from served import BOOTSTRAP
from sqlalchemy.ext.asyncio import AsyncEngine

from grpc_common.testing import bearer
from localmesh import child, ports
from meshwork.auth.v1 import auth_service_pb2 as pb
from meshwork.auth.v1.auth_service_pb2_grpc import AuthServiceStub

PASSWORD = "seven ducks in a quiet row"
GRACE = 8


async def test_a_repeat_at_another_replica_has_the_same_successor_and_a_late_one_none(
    engine: AsyncEngine, migrated_url: str, tmp_path: Path
) -> None:
    """The engine only empties the database."""
    async with AsyncExitStack() as stack:
        behind, ahead = [
            AuthServiceStub(await stack.enter_async_context(replica(off, migrated_url, tmp_path))) for off in (-25, 30)
        ]
        await behind.BootstrapAdmin(pb.BootstrapAdminRequest(secret=BOOTSTRAP, username="root", password=PASSWORD))
        began = await ahead.Login(pb.LoginRequest(username="root", password=PASSWORD))
        for first, second in ((behind, ahead), (ahead, behind)):
            request = pb.RefreshRequest(refresh_token=began.refresh_token)
            successors = [await replica.Refresh(request) for replica in (first, second)]
            assert len({each.refresh_token for each in successors}) == 1
            for verifier in (behind, ahead):
                for each in successors:
                    me = await verifier.GetUser(pb.GetUserRequest(id="me"), metadata=bearer(each.access_token))
                    assert me.username == "root"
            began = successors[0]

        await asyncio.sleep(GRACE)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await behind.Refresh(request)
        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED


def replica(off: float, url: str, folder: Path) -> AbstractAsyncContextManager[grpc.aio.Channel]:
    port = ports.free_port()
    return child.serving(
        wrong_clock.__name__,
        f"127.0.0.1:{port}",
        folder,
        CLOCK_OFF=str(off),
        AUTH_GRPC__PORT=str(port),
        AUTH_HTTP__PORT=str(ports.free_port()),
        AUTH_AUTH__ISSUER="https://auth.example",  # all replicas are one issuer
        AUTH_DATABASE_URL=url,
        AUTH_BOOTSTRAP_SECRET=BOOTSTRAP,
        AUTH_REFRESH_GRACE=str(GRACE),
    )
