"""Everything can be restarted, and certificates replaced, while others call; nobody notices."""

import asyncio
import contextlib
import os
import time

import grpc
import pytest
from grpc import StatusCode

from load import Load
from meshwork.items.v1 import items_service_pb2 as pb
from meshwork.items.v1 import items_service_pb2_grpc as rpc

ROTATE_FOR = float(os.environ.get("ROTATE_SECONDS", "12"))
"""`ROTATE_SECONDS=60` for longer than the suite has."""
BOTH = 20


async def _do(mesh, *arguments):
    status, out, err = await asyncio.to_thread(mesh, *arguments)
    assert status == 0, f"{out}\n{err}"
    return out


def _items(mesh):
    return [each for each in mesh.status()["services"] if each["name"].startswith("items")]


@pytest.mark.parametrize(("name", "lines"), [("items", 2), ("items-sidecar", 2)])
async def test_a_rolling_restart_loses_no_call(two_replicas, name, lines):
    before = _items(two_replicas)
    load = Load(two_replicas)
    async with load.running():
        await load.until(BOTH)
        out = await _do(two_replicas, "restart", name)
        await load.until(load.done + BOTH)
    assert load.failures == []
    assert out.count("is back after") == lines
    after = _items(two_replicas)
    key = (lambda each: each["pid"]) if name == "items" else (lambda each: each["sidecar"]["pid"])
    assert {key(each) for each in before}.isdisjoint({key(each) for each in after})


async def _actions():
    yield pb.ItemSyncRequest(delete_id="nobody")
    await asyncio.sleep(120)  # whoever ends the stream is sooner


async def _end(stream):
    """The status of a stream; it is told only when all replies have been read, heartbeats included."""
    with contextlib.suppress(grpc.aio.AioRpcError):
        while await stream.read() is not grpc.aio.EOF:
            pass
    return await stream.code()


@pytest.mark.timeout(240)
@pytest.mark.parametrize("name", ["items", "items-sidecar", "ingress"])
async def test_a_stream_that_outlasts_the_drain_ends_as_unavailable(two_replicas, name):
    """Replies without requests and both: one the service ends when asked to, the other is cut off."""
    metadata = (("authorization", f"Bearer {two_replicas.token()}"),)
    credentials = grpc.ssl_channel_credentials(two_replicas.root_certificate())
    async with grpc.aio.secure_channel(f"localhost:{two_replicas.port}", credentials) as channel:
        stub = rpc.ItemServiceStub(channel)
        watch = stub.WatchItems(pb.WatchItemsRequest(), metadata=metadata, timeout=200)
        sync = stub.SyncItems(_actions(), metadata=metadata, timeout=200)
        for stream in (watch, sync):
            assert await stream.read() is not grpc.aio.EOF
        await _do(two_replicas, "restart", name)
        assert [await _end(stream) for stream in (watch, sync)] == [StatusCode.UNAVAILABLE] * 2
    assert two_replicas.status()["ready"]


@pytest.mark.timeout(300 + 2 * ROTATE_FOR)
async def test_certificates_and_authorities_change_under_load(two_replicas):
    """Each caller connects anew for each few calls, with the roots it then finds: every handshake must work."""
    load = Load(two_replicas, calls_per_connection=5)
    roots = set()
    async with load.running():
        end = time.monotonic() + ROTATE_FOR
        while time.monotonic() < end:
            await _do(two_replicas, "rotate")
            roots.add(two_replicas.root_certificate())
            await _do(two_replicas, "rotate", "--authority")
            roots.add(two_replicas.root_certificate())
        await load.until(load.done + BOTH)
    assert load.failures == []
    assert load.connections > BOTH
    assert len(roots) >= 2
    assert two_replicas.root_certificate().count(b"BEGIN") == 2


async def test_what_is_not_there_is_not_restarted(two_replicas):
    status, _, err = await asyncio.to_thread(two_replicas, "restart", "itms")
    assert status == 2
    assert "there is no itms to restart; did you mean items?" in err


async def test_down_in_the_midst_of_a_restart_leaves_nothing(own_mesh):
    await asyncio.to_thread(own_mesh.up, "--only", "items")
    restart = own_mesh.start("restart", "items")  # which takes two seconds and more
    await asyncio.sleep(0.8)
    assert (await asyncio.to_thread(own_mesh, "down"))[0] == 0
    _, err = await asyncio.to_thread(restart.communicate, timeout=30)
    assert restart.returncode == 1
    assert "the mesh ended before it had answered" in err
    assert own_mesh.left() == []
