"""A token that is taken back is refused by a service in another process, and its streams end."""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc import StatusCode, aio
from revocation_stream import shop

from grpc_common.revocation_stream import RevocationStream
from grpc_common.testing import bearer
from grpc_common.token_maker import TokenMaker
from localmesh.parts.valkey import Valkey
from meshwork.items.v1 import items_service_pb2 as pb
from meshwork.items.v1.items_service_pb2_grpc import ItemServiceStub

PATIENCE = 60.0
ITEM = pb.GetItemRequest(id="1")


@pytest.fixture(scope="session")
def maker() -> TokenMaker:
    return TokenMaker()


@pytest.fixture
def serving(maker: TokenMaker, tmp_path: Path) -> Callable[..., Any]:
    """Runs the shop with the revocations of a Valkey, and yields its stub and its process."""

    @asynccontextmanager
    async def serving(url: str, **variables: str) -> AsyncIterator[tuple[Any, asyncio.subprocess.Process]]:
        (tmp_path / "jwks.json").write_text(json.dumps(maker.jwks()))
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, shop.__file__),
            stderr=asyncio.subprocess.PIPE,
            env={
                "PATH": os.defpath,
                "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path)),
                "SHOP_AUTH__JWKS": str(tmp_path / "jwks.json"),
                "SHOP_AUTH__ISSUER": maker.issuer,
                "SHOP_AUTH__AUDIENCE": maker.audience,
                "SHOP_REVOCATIONS_URL": url,
                **variables,
            },
        )
        try:
            async with asyncio.timeout(PATIENCE):
                target = await _target(process)
                async with aio.insecure_channel(target) as channel:
                    yield ItemServiceStub(channel), process
        finally:
            if process.returncode is None:
                process.kill()
            await process.communicate()

    return serving


async def _target(process: asyncio.subprocess.Process) -> str:
    assert process.stderr is not None
    async for text in process.stderr:
        line = json.loads(text)
        if line["event"] == "serving":
            return str(line["target"])
    raise AssertionError("it never served")


async def until_refused(stub: Any, token: str) -> float:
    """Returns the seconds until it was."""
    begun = time.monotonic()
    while True:
        try:
            await stub.GetItem(ITEM, metadata=bearer(token))
        except aio.AioRpcError as error:
            assert (error.code(), error.details()) == (StatusCode.UNAUTHENTICATED, "token revoked")
            return time.monotonic() - begun


@pytest.mark.parametrize("by", ["jti", "sid"])
async def test_a_token_taken_back_is_refused_by_another_process(
    serving: Callable[..., Any], valkey: Valkey, maker: TokenMaker, by: str
) -> None:
    claims = maker.claims("ann", session="phone")
    token, other = maker.sign(maker.header(), claims), maker.token("ann", session="laptop")
    async with serving(valkey.url("items")) as (stub, _), RevocationStream(valkey.url("auth")) as auth:
        await stub.GetItem(ITEM, metadata=bearer(token))
        stream = stub.WatchItems(pb.WatchItemsRequest(), metadata=bearer(token))
        await stream.read()

        await auth.publish(claims[by], claims["exp"])

        assert await until_refused(stub, token) < 5
        assert await stream.code() is StatusCode.UNAUTHENTICATED
        assert await stream.details() == "token revoked"
        await stub.GetItem(ITEM, metadata=bearer(other))


async def test_one_that_starts_later_never_accepts_what_was_taken_back(
    serving: Callable[..., Any], valkey: Valkey, maker: TokenMaker
) -> None:
    claims = maker.claims("ann")
    async with RevocationStream(valkey.url("auth")) as auth:
        await auth.publish(claims["jti"], claims["exp"])
    async with serving(valkey.url("items")) as (stub, _):
        with pytest.raises(aio.AioRpcError) as refused:
            await stub.GetItem(ITEM, metadata=bearer(maker.sign(maker.header(), claims)))
    assert refused.value.code() is StatusCode.UNAUTHENTICATED


async def test_what_its_issuer_took_back_before_valkey_was_there_is_refused(
    serving: Callable[..., Any], valkey: Valkey, maker: TokenMaker
) -> None:
    claims = maker.claims("ann", session="phone")
    async with serving(valkey.url("items")) as (stub, _):
        await stub.GetItem(ITEM, metadata=bearer(maker.sign(maker.header(), claims)))
        async with serving(valkey.url("auth"), SHOP_TAKEN_BACK='["laptop", "phone"]'):
            assert await until_refused(stub, maker.sign(maker.header(), claims)) < 5


async def test_a_service_starts_serves_and_stops_without_valkey(
    serving: Callable[..., Any], own_valkey: Valkey, maker: TokenMaker
) -> None:
    await own_valkey.unit.stop()
    claims = maker.claims("ann")
    token = maker.sign(maker.header(), claims)
    async with serving(own_valkey.url("items")) as (stub, process):
        await stub.GetItem(ITEM, metadata=bearer(token))
        await own_valkey.unit.start()
        async with RevocationStream(own_valkey.url("auth")) as auth:
            await auth.publish(claims["jti"], claims["exp"])
        assert await until_refused(stub, token) < 5
        os.kill(own_valkey.unit.pid, signal.SIGKILL)
        with pytest.raises(grpc.RpcError):
            await stub.GetItem(ITEM, metadata=bearer(token))
        await stub.GetItem(ITEM, metadata=bearer(maker.token("ann")))
        process.terminate()
        assert process.stderr is not None
        await process.stderr.read()
        assert await process.wait() == 0
