"""The sidecar lets in whom the policy names, by certificate, and nobody else.

Each caller has an Envoy of its own, as a service has: it holds the certificate and connects to the sidecar.
"""

import asyncio
import subprocess
from pathlib import Path

import grpc
import httpx
import hvac
import pytest

from localmesh import ports, probes, topology
from localmesh.certificates import Identity
from localmesh.envoy import program, tls
from localmesh.envoy.clusters import cluster
from localmesh.envoy.config import bootstrap, listener, tcp
from localmesh.envoy.http import connection_manager, virtual_host
from localmesh.pki import Authority
from localmesh.testing import install_self_signed
from localmesh.unit import Unit
from meshwork.items.v1 import items_service_pb2 as pb
from meshwork.items.v1.items_service_pb2_grpc import ItemServiceStub

DESCRIBED = topology.read(topology.IN_THE_TREE)
LOG_FLUSHED_WITHIN = 1.5
ITEMS = DESCRIBED.spiffe_id("items")


@pytest.fixture
def authority(mesh):
    (openbao,) = [part for part in mesh.status()["parts"] if part["name"] == "openbao"]
    token = (mesh.state / "openbao" / "root-token").read_text()
    return Authority(hvac.Client(url=openbao["address"], token=token), DESCRIBED)


@pytest.fixture
async def call(mesh, tmp_path):
    """Calls GetItem through an Envoy with this transport socket; returns the status and what it says."""
    units = []

    async def through(transport_socket) -> tuple[grpc.StatusCode, str]:
        port, admin = ports.free_port(), ports.free_port()
        service = mesh.service("items")
        inbound = int(service["sidecar"]["inbound"].rpartition(":")[2])
        route = {"match": {"prefix": "/"}, "route": {"cluster": "items"}}
        out = connection_manager(
            "outbound", codec_type="HTTP2", filters=[], hosts=[virtual_host("items", ["*"], [route])]
        )
        clusters = [cluster("items", [tcp(inbound)], transport_socket=transport_socket)]
        config = tmp_path / "caller.json"
        program.write(bootstrap("caller", admin, [listener("outbound", tcp(port), out)], clusters), config)
        unit = Unit(
            "caller", lambda: program.command("caller", config), lambda: probes.envoy_is_live(admin), tmp_path / "log"
        )
        units.append(unit)
        await unit.start()
        async with grpc.aio.insecure_channel(f"{ports.LOOPBACK}:{port}") as channel:
            stub = ItemServiceStub(channel)
            metadata = (("authorization", f"Bearer {mesh.token()}"),)
            try:
                await stub.GetItem(pb.GetItemRequest(id="nobody"), timeout=10, metadata=metadata)
            except grpc.aio.AioRpcError as error:
                return error.code(), error.details() or ""
        return grpc.StatusCode.OK, ""

    yield through
    await asyncio.gather(*(unit.stop() for unit in units))


def _trusting(identity: Identity, mesh) -> Identity:
    """The same identity, made to trust the mesh, so that only the sidecar has a reason to refuse."""
    text = {path: path.read_text() for path in (identity.certificate, identity.key)}
    identity.install(
        certificate=text[identity.certificate], key=text[identity.key], ca=mesh.root_certificate().decode()
    )
    return identity


def _refused_handshakes(mesh, why: str) -> int:
    """The sidecar's own count: a caller learns of a refusal only by a closed connection (TLS 1.3)."""
    service = mesh.service("items")
    stats = httpx.get(f"http://{service['sidecar']['admin']}/stats", params={"filter": f"^listener.*ssl.{why}$"}).text
    return sum(int(line.rpartition(" ")[2]) for line in stats.splitlines())


def _mutual(identity: Identity):
    tls.write_secrets(identity)
    return tls.mutual_client(identity, server=ITEMS)


async def test_the_ingress_is_let_in(call, authority, tmp_path):
    identity = Identity("ingress", tmp_path / "ingress")
    authority.issue_workload(identity, "ingress")
    assert (await call(_mutual(identity)))[0] == grpc.StatusCode.NOT_FOUND


async def test_another_service_is_denied(call, authority, tmp_path):
    identity = Identity("stranger", tmp_path / "stranger")
    authority.issue_workload(identity, "stranger")
    assert await call(_mutual(identity)) == (grpc.StatusCode.PERMISSION_DENIED, "RBAC: access denied")


async def test_a_certificate_of_another_authority_is_refused(call, mesh, tmp_path):
    identity = Identity("forged", tmp_path / "forged")
    install_self_signed(identity, DESCRIBED.spiffe_id("ingress"))
    before = _refused_handshakes(mesh, "fail_verify_error")
    assert (await call(_mutual(_trusting(identity, mesh))))[0] == grpc.StatusCode.UNAVAILABLE
    assert _refused_handshakes(mesh, "fail_verify_error") > before


async def test_no_certificate_is_refused(call, authority, mesh, tmp_path):
    identity = Identity("ingress", tmp_path / "ingress")
    authority.issue_workload(identity, "ingress")
    transport = _mutual(identity)
    del transport["typed_config"]["common_tls_context"]["tls_certificate_sds_secret_configs"]
    before = _refused_handshakes(mesh, "fail_verify_no_cert")
    assert (await call(transport))[0] == grpc.StatusCode.UNAVAILABLE
    assert _refused_handshakes(mesh, "fail_verify_no_cert") > before


async def test_plain_text_is_refused(call):
    assert (await call(None))[0] == grpc.StatusCode.UNAVAILABLE


async def test_a_server_that_is_somebody_else_is_not_talked_to(call, authority, tmp_path):
    identity = Identity("ingress", tmp_path / "ingress")
    authority.issue_workload(identity, "ingress")
    tls.write_secrets(identity)
    code, _ = await call(tls.mutual_client(identity, server=DESCRIBED.spiffe_id("stranger")))
    assert code == grpc.StatusCode.UNAVAILABLE
    await asyncio.sleep(LOG_FLUSHED_WITHIN)
    assert "CERTIFICATE_VERIFY_FAILED" in (tmp_path / "log").read_text()


def test_the_service_hears_who_called(mesh):
    """The sidecar logs the caller's SPIFFE id, from its certificate."""
    with mesh.items() as items, pytest.raises(grpc.RpcError):
        items.GetItem(pb.GetItemRequest(id="nobody"), timeout=10)
    _, out, _ = mesh("logs", "items-sidecar")
    assert DESCRIBED.spiffe_id("ingress") in out


def test_what_is_left_open_is_only_ours(mesh):
    assert Path(mesh.status()["services"][0]["grpc"].removeprefix("unix:")).parent.stat().st_mode & 0o777 == 0o700


def test_a_message_that_is_none_ends_no_call_of_others(mesh):
    """What the ingress asks of a service shares a connection, which outlives an authority that HTTP/2 forbids."""
    inbound = mesh.service("items")["sidecar"]["inbound"].rpartition(":")[2]
    ours = mesh.state / "certificates" / "ingress"
    ask = [
        "-sk",
        "--http2",
        "--cert",
        f"{ours}/tls.crt",
        "--key",
        f"{ours}/tls.key",
        "--max-time",
        "20",
        "-o",
        "/dev/null",
    ]
    ask += ["-w", "%{http_code} %{num_connects}\n", f"https://127.0.0.1:{inbound}/"]
    command = ["curl", *ask, "-H", "host: somebody@localhost", "--next", *ask]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)  # noqa: S603
    assert [line.split() for line in done.stdout.splitlines()] == [["000", "1"], ["403", "0"]], done.stderr
