"""A connection that fails says why, at the first call and before anything hangs."""

import asyncio
import time

import grpc
import pytest
from cryptography import x509

from authority import Authority, put
from client_kit import Server, Stub, echo, make_factory, serving, text
from grpc_common.client.probe import Cause
from grpc_common.client.remote_error import ConnectionFailedError
from grpc_common.settings import ClientTLSSettings

LOCALHOST = [x509.DNSName("localhost")]
SOON = 4.0


@pytest.fixture(scope="module")
def authority():
    return Authority("The authority")


@pytest.fixture(scope="module")
def other():
    return Authority("Another authority")


def server_credentials(issued, client_ca=None):
    cert, key = issued
    return grpc.ssl_server_credentials([(key, cert)], client_ca, client_ca is not None)


def trusting(tmp_path, authority, issued=None):
    put(tmp_path / "ca.pem", authority.pem)
    if issued is None:
        return ClientTLSSettings(ca=tmp_path / "ca.pem")
    put(tmp_path / "own.pem", issued[0])
    put(tmp_path / "own.key", issued[1])
    return ClientTLSSettings(ca=tmp_path / "ca.pem", cert=tmp_path / "own.pem", key=tmp_path / "own.key")


async def failure(target, *, secure=True, **arguments):
    """Return what the first call fails with: of an RPC that would be retried."""
    begun = time.monotonic()
    async with make_factory(**arguments) as factory:
        with pytest.raises(ConnectionFailedError) as failed:
            await Stub(await factory.create_channel(target, secure=secure)).Read(text())
    assert time.monotonic() - begun < SOON
    assert failed.value.reason == failed.value.cause
    return failed.value


async def over_tls(tls, issued, client_ca=None):
    async with serving(Server(Read=echo), credentials=server_credentials(issued, client_ca)) as target:
        return await failure(target, tls=tls)


async def test_with_good_certificates_there_is_nothing_to_say(tmp_path, authority):
    tls = trusting(tmp_path, authority, authority.issue([]))
    credentials = server_credentials(authority.issue(LOCALHOST), authority.pem)
    async with serving(Server(Read=echo), credentials=credentials) as target, make_factory(tls=tls) as factory:
        assert await Stub(await factory.create_channel(target)).Read(text("a")) == text("a")


async def test_a_wrong_authority(tmp_path, authority, other):
    error = await over_tls(trusting(tmp_path, other), authority.issue(LOCALHOST))
    assert error.cause == Cause.CERTIFICATE_UNTRUSTED
    assert "set ca to the right one" in error.message
    assert error.attempts == 1  # again would not help


async def test_an_expired_certificate(tmp_path, authority):
    error = await over_tls(trusting(tmp_path, authority), authority.issue(LOCALHOST, ends=-60))
    assert error.cause == Cause.CERTIFICATE_EXPIRED


async def test_a_certificate_of_tomorrow(tmp_path, authority):
    error = await over_tls(trusting(tmp_path, authority), authority.issue(LOCALHOST, begins=3000))
    assert error.cause == Cause.CERTIFICATE_NOT_YET_VALID


async def test_a_certificate_for_another_name(tmp_path, authority):
    error = await over_tls(trusting(tmp_path, authority), authority.issue([x509.DNSName("elsewhere.test")]))
    assert error.cause == Cause.CERTIFICATE_NAME_MISMATCH
    assert "server_name" in error.message


async def test_that_name_can_be_said(tmp_path, authority):
    tls = trusting(tmp_path, authority).model_copy(update={"server_name": "elsewhere.test"})
    credentials = server_credentials(authority.issue([x509.DNSName("elsewhere.test")]))
    async with serving(Server(Read=echo), credentials=credentials) as target, make_factory(tls=tls) as factory:
        assert await Stub(await factory.create_channel(target)).Read(text("a")) == text("a")


async def test_no_certificate_of_ones_own(tmp_path, authority):
    error = await over_tls(trusting(tmp_path, authority), authority.issue(LOCALHOST), authority.pem)
    assert error.cause == Cause.CLIENT_CERTIFICATE_REFUSED
    assert "give cert and key" in error.message


async def test_a_certificate_of_ones_own_that_nobody_trusts(tmp_path, authority, other):
    error = await over_tls(trusting(tmp_path, authority, other.issue([])), authority.issue(LOCALHOST), authority.pem)
    assert error.cause == Cause.CLIENT_CERTIFICATE_REFUSED
    assert "does not take our certificate" in error.message


async def test_a_server_without_tls(tmp_path, authority):
    async with serving(Server(Read=echo)) as target:
        error = await failure(target, tls=trusting(tmp_path, authority))
    assert error.cause == Cause.SERVER_SPEAKS_NO_TLS


async def test_a_server_with_tls(authority):
    async with serving(Server(Read=echo), credentials=server_credentials(authority.issue(LOCALHOST))) as target:
        error = await failure(target, secure=False)
    assert error.cause in (Cause.SERVER_WANTS_TLS, Cause.CLOSED_BY_PEER)
    assert "secure=True" in error.message


async def test_nobody_there(unused_tcp_port):
    error = await failure(f"127.0.0.1:{unused_tcp_port}", secure=False)
    assert error.cause == Cause.NOTHING_LISTENS
    assert error.attempts == 4  # somebody may come
    assert (await failure("unix:/nowhere/at.sock", secure=False)).cause == Cause.NOTHING_LISTENS


async def test_a_name_nobody_knows():
    error = await failure("items.invalid:50051", secure=False)
    assert error.cause == Cause.NAME_UNKNOWN
    assert "items.invalid does not resolve" in error.message


async def test_something_else_there():
    async def website(reader, writer):
        await reader.readline()
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(website, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        assert (await failure(f"127.0.0.1:{port}", secure=False)).cause == Cause.NOT_HTTP2


async def test_a_writes_failure_says_why_too(unused_tcp_port):
    async with make_factory() as factory:
        stub = Stub(await factory.create_channel(f"127.0.0.1:{unused_tcp_port}", secure=False))
        with pytest.raises(ConnectionFailedError, match="nothing listens on"):
            await stub.Write(text())
        with pytest.raises(ConnectionFailedError, match="nothing listens on"):
            async for _ in stub.Watch(text()):
                pass
