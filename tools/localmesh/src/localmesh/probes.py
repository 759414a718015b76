"""How the mesh learns that a process does its work."""

from http import HTTPStatus
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from grpc_common.loopback import NO_PROXY
from localmesh import ports
from localmesh.failure import MeshError
from localmesh.http_status import http_status

SERVING = health_pb2.HealthCheckResponse.SERVING
ANSWER_WITHIN = 2.0


async def service_serves(socket: Path, service: str) -> None:
    """Returns when the gRPC service behind a Unix socket says SERVING, raises otherwise."""
    async with grpc.aio.insecure_channel(f"unix:{socket}", [NO_PROXY]) as channel:
        await _ask(channel, service)


async def ingress_serves(port: int, ca: bytes, authority: str, service: str) -> None:
    """Returns when the gRPC service says SERVING through the ingress and its sidecar, raises otherwise.

    `ca` is the root certificate (PEM).
    """
    credentials = grpc.ssl_channel_credentials(ca)
    options = [NO_PROXY, ("grpc.default_authority", authority), ("grpc.ssl_target_name_override", authority)]
    async with grpc.aio.secure_channel(f"{ports.LOOPBACK}:{port}", credentials, options=options) as channel:
        await _ask(channel, service)


async def envoy_is_live(admin_port: int) -> None:
    """Returns when an Envoy has started all it was told to, raises otherwise."""
    if (status := await http_status(admin_port, "/ready")) != HTTPStatus.OK:
        raise MeshError(f"Envoy is not live yet (status {status})")


async def _ask(channel: grpc.aio.Channel, service: str) -> None:
    stub = health_pb2_grpc.HealthStub(channel)
    try:
        answer = await stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=ANSWER_WITHIN)
    except grpc.aio.AioRpcError as error:
        raise MeshError(f"{service}: {error.code().name} {error.details()}") from error
    if answer.status != SERVING:
        raise MeshError(f"{service} is {health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)}")
