"""How the mesh learns that a process does its work."""

import asyncio
import contextlib
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from localmesh import ports
from localmesh.failure import MeshError

SERVING = health_pb2.HealthCheckResponse.SERVING
ANSWER_WITHIN = 2.0


async def service_serves(socket: Path, service: str) -> None:
    """Returns when the gRPC service behind a Unix socket says SERVING, raises otherwise."""
    async with grpc.aio.insecure_channel(f"unix:{socket}") as channel:
        await _ask(channel, service)


async def ingress_serves(port: int, ca: bytes, authority: str, service: str) -> None:
    """Returns when the gRPC service says SERVING through the ingress and its sidecar, raises otherwise.

    `ca` is the root certificate (PEM).
    """
    credentials = grpc.ssl_channel_credentials(ca)
    options = [("grpc.default_authority", authority), ("grpc.ssl_target_name_override", authority)]
    async with grpc.aio.secure_channel(f"{ports.LOOPBACK}:{port}", credentials, options=options) as channel:
        await _ask(channel, service)


async def envoy_is_live(admin_port: int) -> None:
    """Returns when an Envoy has started all it was told to, raises otherwise."""
    reader, writer = await asyncio.open_connection(ports.LOOPBACK, admin_port)
    try:
        writer.write(b"GET /ready HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n")
        answer = await reader.readline()
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
    if answer.split()[1:2] != [b"200"]:
        raise MeshError(f"Envoy is not live yet: {answer.decode(errors='replace').strip()}")


async def _ask(channel: grpc.aio.Channel, service: str) -> None:
    stub = health_pb2_grpc.HealthStub(channel)
    try:
        answer = await stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=ANSWER_WITHIN)
    except grpc.aio.AioRpcError as error:
        raise MeshError(f"{service}: {error.code().name} {error.details()}") from error
    if answer.status != SERVING:
        raise MeshError(f"{service} is {health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)}")
