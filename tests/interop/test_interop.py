"""gRPC's own interop client, in Go, against a GRPCServer with the default chain: plain, and over TLS."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from cryptography import x509

from authority import Authority, put
from grpc_common.server import GRPCServer
from grpc_common.settings import TLSSettings
from interop_service import TestService

CASES = [
    "empty_unary",
    "large_unary",
    "client_streaming",
    "server_streaming",
    "ping_pong",
    "empty_stream",
    "timeout_on_sleeping_server",
    "cancel_after_begin",
    "cancel_after_first_response",
    "status_code_and_message",
    "special_status_message",
    "custom_metadata",
    "unimplemented_method",
    "unimplemented_service",
    "pick_first_unary",
    "rpc_soak",
    "channel_soak",
]
"""All that a server without credentials of Google's can be asked for, but `client_compressed_*`: grpc.aio does not tell
a handler whether a request was compressed."""
NAME = "interop.test"
WITHIN = 120


@asynccontextmanager
async def serving(tls: TLSSettings | None = None) -> AsyncIterator[GRPCServer]:
    server = GRPCServer("127.0.0.1", 0, tls=tls)
    TestService().register(server)
    await server.start()
    try:
        yield server
    finally:
        await server.stop(1)


async def outcome(client: Path, server: GRPCServer, case: str, *arguments: str) -> tuple[int | None, str]:
    """The exit status of the client, and what it said."""
    process = await asyncio.create_subprocess_exec(
        client,
        "--server_host=127.0.0.1",
        f"--server_port={server.port}",
        f"--test_case={case}",
        "--soak_iterations=10",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        said, _ = await asyncio.wait_for(process.communicate(), WITHIN)
    except TimeoutError:
        process.kill()
        raise
    return process.returncode, said.decode()


@pytest.mark.parametrize("case", CASES)
async def test_plain(programs: Path, case: str) -> None:
    async with serving() as server:
        status, said = await outcome(programs / "client", server, case)
    assert status == 0, said


@pytest.mark.parametrize("case", CASES)
async def test_over_tls(programs: Path, tmp_path: Path, case: str) -> None:
    authority = Authority("The authority of the interop tests")
    tls = TLSSettings(cert=tmp_path / "tls.crt", key=tmp_path / "tls.key")
    for path, pem in zip((tls.cert, tls.key), authority.issue([x509.DNSName(NAME)]), strict=True):
        put(path, pem)
    put(tmp_path / "ca.crt", authority.pem)
    secure = ("--use_tls", "--use_test_ca", f"--ca_file={tmp_path}/ca.crt", f"--server_host_override={NAME}")
    async with serving(tls) as server:
        status, said = await outcome(programs / "client", server, case, *secure)
    assert status == 0, said


async def test_the_client_notices_what_is_wrong(programs: Path) -> None:
    """The control: a server that answers with a byte less than it was asked for."""

    class Stingy(TestService):
        async def UnaryCall(self, request, context):
            request.response_size -= 1
            return await super().UnaryCall(request, context)

    server = GRPCServer("127.0.0.1", 0)
    Stingy().register(server)
    await server.start()
    try:
        status, _ = await outcome(programs / "client", server, "large_unary")
    finally:
        await server.stop(1)
    assert status != 0
