"""What a service learns of where a call comes from, through real proxies that are configured as the mesh does it."""

import asyncio
import json
import ssl

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from grpc_common.client_address import client_address, told_address
from localmesh import ports, probes
from localmesh.certificates import Identity
from localmesh.envoy import program, tls
from localmesh.envoy.ingress import Gate, ingress
from localmesh.envoy.sidecar import sidecar
from localmesh.parts.openbao import OpenBao
from localmesh.pki import Authority
from localmesh.unit import Unit

FORGED = (("x-forwarded-for", "203.0.113.9"), ("x-envoy-external-address", "203.0.113.9"))
ASKED = "asked by a test"


class Observer(health_pb2_grpc.HealthServicer):
    """Is always well, and notes where the test's questions come from."""

    def __init__(self):
        self.addresses = []

    async def Check(self, request, context):
        if request.service == ASKED:
            self.addresses.append(client_address(context))
        return health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING)


@pytest.fixture
async def observer(make_workloads):
    """Behind the sockets of all workloads; for HTTP, what answers with the headers that it got."""

    async def echo(reader, writer):
        asked, *head = (await reader.readuntil(b"\r\n\r\n")).decode().splitlines()[:-1]
        if "slow" in asked:
            await asyncio.sleep(0.5)
        body = json.dumps([line.split(": ", 1) for line in head]).encode()
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%s" % (len(body), body))
        await writer.drain()
        writer.close()

    everyone = make_workloads()
    observer, server, pages = Observer(), grpc.aio.server(), []
    health_pb2_grpc.add_HealthServicer_to_server(observer, server)
    for workload in everyone:
        server.add_insecure_port(f"unix:{workload.socket}")
        pages.append(await asyncio.start_unix_server(echo, workload.http_socket))
    await server.start()
    observer.everyone = everyone
    yield observer
    await server.stop(None)
    for page in pages:
        page.close()


@pytest.fixture
async def gate(described, observer, tmp_path):
    """The ingress in front of the sidecars of all workloads, each a process."""
    names = ("ingress-server", "ingress")
    server, client = (Identity(name, tmp_path / "certificates" / name) for name in names)
    gate = Gate(
        port=ports.free_port(),
        admin_port=ports.free_port(),
        traces_port=ports.free_port(),
        server=server,
        client=client,
    )

    def issue(openbao):
        authority = Authority(openbao.client(), described)
        for workload in observer.everyone:
            authority.issue_workload(workload.identity, workload.service.account)
        authority.issue_workload(client, described.ingress.account)
        authority.issue_server(server, ["localhost"], [ports.LOOPBACK])
        for identity in (server, client, *(workload.identity for workload in observer.everyone)):
            tls.write_secrets(identity)

    async with OpenBao(tmp_path / "openbao", tmp_path / "openbao.log") as openbao:
        await asyncio.to_thread(issue, openbao)
    configs = {
        each.name: (sidecar(described, each, observer.everyone, gate.traces_port), each.admin_port)
        for each in observer.everyone
    }
    configs["ingress"] = ingress(described, gate, observer.everyone), gate.admin_port
    units = [_unit(name, config, admin, tmp_path) for name, (config, admin) in configs.items()]
    try:
        await asyncio.gather(*(unit.start() for unit in units))
        yield gate
    finally:
        await asyncio.gather(*(unit.stop() for unit in units))


def _unit(name, config, admin_port, folder):
    path = folder / f"{name}.json"
    program.write(config, path)
    return Unit(name, lambda: program.command(name, path), lambda: probes.envoy_is_live(admin_port), folder / name)


async def _ask(channel, metadata=()):
    """Ask until the proxies know that the services are well."""
    stub = health_pb2_grpc.HealthStub(channel)
    async with asyncio.timeout(30):
        while True:
            try:
                return await stub.Check(health_pb2.HealthCheckRequest(service=ASKED), metadata=metadata)
            except grpc.aio.AioRpcError as error:
                assert error.code() is grpc.StatusCode.UNAVAILABLE, error
                await asyncio.sleep(0.1)


async def _get(client, url, headers):
    unknown = httpx.codes.SERVICE_UNAVAILABLE  # whether the service is well
    async with asyncio.timeout(30):
        while (answer := await client.get(url, headers=headers)).status_code == unknown:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    assert answer.status_code == httpx.codes.OK, answer.text
    return [(name.lower(), value) for name, value in answer.json()]


async def test_a_service_knows_the_callers_address_whatever_the_caller_claims(gate, observer):
    credentials = grpc.ssl_channel_credentials(gate.server.ca.read_bytes())
    for number, workload in enumerate(observer.everyone):
        authority = f"{workload.service_name}.localhost"
        options = [("grpc.default_authority", authority), ("grpc.ssl_target_name_override", "localhost")]
        async with grpc.aio.secure_channel(f"127.0.0.1:{gate.port}", credentials, options) as channel:
            for claimed in ((), FORGED, FORGED[:1], FORGED[1:], (*FORGED, *FORGED)):
                await _ask(channel, claimed)
        assert observer.addresses[number * 5 :] == ["127.0.0.1"] * 5

    trust = ssl.create_default_context(cafile=str(gate.server.ca))
    async with httpx.AsyncClient(verify=trust) as client:
        for claimed in (FORGED, FORGED[1:]):
            headers = await _get(client, f"https://localhost:{gate.port}/.well-known/jwks.json", claimed)
            assert told_address(headers) == "127.0.0.1"


async def test_who_calls_the_ingress_does_not_say_how_long_it_may_take(gate):
    trust = ssl.create_default_context(cafile=str(gate.server.ca))
    async with httpx.AsyncClient(verify=trust) as client:
        url = f"https://localhost:{gate.port}/.well-known/slow"
        await _get(client, url, {"x-envoy-internal": "true", "x-envoy-upstream-rq-timeout-ms": "1"})


async def test_a_service_cannot_say_where_its_calls_come_from(gate, observer):
    (items,) = [each for each in observer.everyone if each.name == "items"]
    transport = httpx.AsyncHTTPTransport(uds=str(items.outbound))
    async with httpx.AsyncClient(transport=transport) as client:
        headers = await _get(client, "http://auth/.well-known/jwks.json", FORGED)
    assert told_address(headers) == ""
    assert not [name for name, _ in headers if name in {"x-forwarded-for", "x-envoy-external-address"}]
