"""What issues tokens fails in all its parts; the tokens there are go on, and it comes back by itself."""

import asyncio
import json
import os
import signal
import time
from contextlib import contextmanager

import grpc
import httpx
import jwt
import pytest
from grpc import StatusCode, aio

from localmesh import ports
from mesh_command import TOPOLOGY, MeshCommand
from meshwork.auth.v1 import auth_service_pb2 as auth_pb
from meshwork.auth.v1.auth_service_pb2_grpc import AuthServiceStub
from meshwork.items.v1 import items_service_pb2 as pb
from meshwork.items.v1.items_service_pb2_grpc import ItemServiceStub

ENV = 'env = { MIGRATE_ON_START = "false" }'
AHEAD = 20
"""Seconds a key is published before it signs: the ingress asks for news twice in that time."""
NOBODY = pb.GetItemRequest(id="nobody")
WITHIN = 60.0
CALLERS = 8


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A mesh whose keys come into use soon after they were made."""
    described = tmp_path_factory.mktemp("described") / "topology.toml"
    before, found, after = TOPOLOGY.read_text().rpartition(ENV)  # auth is the last
    assert found
    soon = f'env = {{ MIGRATE_ON_START = "false", KEY_AHEAD = "{AHEAD}", KEY_READ = "2" }}'
    described.write_text(f"{before}{soon}{after}")
    command = MeshCommand(tmp_path_factory.mktemp("faults"), described)
    command.up()
    assert _call(command, command.token()) is StatusCode.NOT_FOUND  # from here on items has the keys
    yield command
    assert command("down")[0] == 0


def _until(condition, what, within=WITHIN):
    give_up = time.monotonic() + within
    while not (value := condition()):
        assert time.monotonic() < give_up, what
        time.sleep(0.1)
    return value


def _login(mesh):
    """How logging in ends."""
    try:
        mesh.log_in()
    except grpc.RpcError as error:
        return error.code()
    return StatusCode.OK


def _call(mesh, token):
    """How a call with a token ends that was there before."""
    with mesh.items(token) as items, pytest.raises(grpc.RpcError) as answered:
        items.GetItem(NOBODY, timeout=10)
    return answered.value.code()


def _fetches(mesh):
    """How often the ingress has asked for the keys, by how that ended."""
    config = (mesh.state / "envoy" / "ingress.json").read_text()
    port = json.loads(config)["admin"]["address"]["socket_address"]["port_value"]
    stats = httpx.get(f"http://{ports.LOOPBACK}:{port}/stats?filter=jwt_authn.jwks_fetch").text
    counts = (line.split(": ") for line in stats.splitlines())
    return {name.rpartition("_")[2]: int(count) for name, count in counts}


def _keys_not_fetched(mesh):
    return _fetches(mesh)["failed"]


def _keys_in_log(mesh):
    """What auth says of its keys."""
    status, out, _ = mesh("logs", "auth")
    assert status == 0
    return [line for line in out.splitlines() if '"component": "keys"' in line or '"component":"keys"' in line]


def _pid(mesh, name):
    status = mesh.status()
    (found,) = [each["pid"] for each in (*status["services"], *status["parts"]) if each["name"] == name]
    return found


@contextmanager
def _stopped(mesh, name):
    """It is there and does not answer, which is worse than gone."""
    pid = _pid(mesh, name)
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_without_auth_the_tokens_there_are_go_on(own):
    token = own.token()
    missed = _keys_not_fetched(own)
    with _stopped(own, "auth"):
        _until(lambda: _keys_not_fetched(own) > missed + 2, "the ingress asked for no keys")
        assert _call(own, token) is StatusCode.NOT_FOUND
        assert _login(own) in {StatusCode.UNAVAILABLE, StatusCode.DEADLINE_EXCEEDED}
    _until(lambda: _login(own) is StatusCode.OK, "nobody can log in")


def test_auth_that_is_killed_comes_back_with_another_way_to_its_key(own):
    """The secret id it was started with was good for one login: to sign again it was given another one."""
    token, pid = own.token(), _pid(own, "auth")
    os.kill(pid, signal.SIGKILL)
    try:
        assert _call(own, token) is StatusCode.NOT_FOUND
    finally:
        _until(lambda: own.service("auth")["ready"] and _pid(own, "auth") != pid, "auth is not back")
    _until(lambda: _login(own) is StatusCode.OK, "nobody can log in")


def test_without_the_page_of_keys_the_tokens_there_are_go_on(own):
    token = own.token()
    page = own.socket("auth").with_name("auth-http.sock")
    missed = _keys_not_fetched(own)
    gone = page.rename(page.with_name("gone"))
    try:
        assert own("restart", "auth-sidecar")[0] == 0  # a connection that is there needs no name
        _until(lambda: _keys_not_fetched(own) > missed + 2, "the ingress asked for no keys")
        assert _call(own, token) is StatusCode.NOT_FOUND
        assert _call(own, own.token(fresh=True)) is StatusCode.NOT_FOUND
    finally:
        if not page.exists():  # an auth that started meanwhile has made its own
            gone.rename(page)


def test_with_openbao_sealed_nobody_logs_in_and_the_tokens_there_are_go_on(own):
    token = own.token()
    own.openbao().sys.seal()
    _until(lambda: _login(own) is StatusCode.UNAVAILABLE, "somebody signs")
    assert _call(own, token) is StatusCode.NOT_FOUND
    assert own.service("auth")["ready"]
    assert own("restart", "openbao")[0] == 0  # which unseals it
    _until(lambda: _login(own) is StatusCode.OK, "nobody can log in")


def test_with_openbao_gone_nobody_logs_in_and_the_tokens_there_are_go_on(own):
    token = own.token()
    with _stopped(own, "openbao"):
        _until(lambda: _login(own) is StatusCode.UNAVAILABLE, "somebody signs")
        assert _call(own, token) is StatusCode.NOT_FOUND
    _until(lambda: _login(own) is StatusCode.OK, "nobody can log in")


async def test_a_key_is_rotated_under_load_and_no_call_fails(own):
    """Callers use the newest token there is and the one before; a session is refreshed all the time."""
    pair = await asyncio.to_thread(own.log_in)
    tokens, kids, failures, over, done = [pair.access_token] * 2, set(), [], False, 0
    credentials = grpc.ssl_channel_credentials(own.root_certificate())
    options = [("grpc.enable_retries", 0)]
    async with aio.secure_channel(f"localhost:{own.port}", credentials, options=options) as channel:
        auth, items = AuthServiceStub(channel), ItemServiceStub(channel)

        async def refresh():
            nonlocal pair
            while not over:
                request = auth_pb.RefreshRequest(refresh_token=pair.refresh_token)
                try:
                    pair = await auth.Refresh(request, timeout=10)
                except aio.AioRpcError as error:
                    failures.append((time.time(), "Refresh", error.code(), error.details()))
                tokens[:] = [tokens[1], pair.access_token]
                kids.add(jwt.get_unverified_header(pair.access_token)["kid"])
                await asyncio.sleep(0.25)

        async def call(which):
            nonlocal done
            while not over:
                metadata = (("authorization", f"Bearer {tokens[which % 2]}"),)
                answer = items.GetItem(NOBODY, timeout=10, metadata=metadata)
                if (code := await answer.code()) is not StatusCode.NOT_FOUND:
                    failures.append((time.time(), "GetItem", code, await answer.details()))
                done += 1
                await asyncio.sleep(0.02)

        fetched = [(time.time(), _fetches(own))]
        tasks = [asyncio.create_task(each) for each in (refresh(), *map(call, range(CALLERS)))]
        try:
            await asyncio.sleep(1)
            old = set(kids)
            status, out, err = await asyncio.to_thread(own, "rotate", "--keys")
            assert (status, out, err) == (0, "new versions of the signing keys access\n", "")
            async with asyncio.timeout(AHEAD + WITHIN):
                while kids == old:  # noqa: ASYNC110 - looked at now and then
                    await asyncio.sleep(0.2)
            count = done
            fetched.append((time.time(), _fetches(own)))
            async with asyncio.timeout(WITHIN):
                while done < count + 100:  # noqa: ASYNC110 - the same
                    await asyncio.sleep(0.2)
        finally:
            over = True
            await asyncio.gather(*tasks)
    assert failures == [], (failures[0], failures[-1], len(failures), fetched, _keys_in_log(own))
    assert len(kids) == len(old) + 1
    print(f"{done} calls, keys {sorted(kids)}")
