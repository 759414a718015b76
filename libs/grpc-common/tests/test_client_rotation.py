"""Certificates are replaced while calls are made: new calls use the new ones, streams there are go on."""

import asyncio
import time
from datetime import UTC, datetime

import grpc
import pytest
from cryptography import x509

from authority import Authority, put
from client_kit import Server, Stub, make_factory, serving, text
from grpc_common.client.clock import Clock
from grpc_common.peer_certificate import peer_principal
from grpc_common.settings import ClientTLSSettings

PATIENCE = 10


class Leap:
    """A clock that is ahead of the real one by as much as one likes."""

    def __init__(self):
        self.ahead = 0.0

    def __call__(self):
        return time.monotonic() + self.ahead


@pytest.fixture
def authority():
    return Authority("The authority")


def certify(folder, authority, who, **validity):
    cert, key = authority.issue([x509.UniformResourceIdentifier(f"spiffe://test/{who}")], **validity)
    put(folder / "own.key", key)
    put(folder / "own.pem", cert)
    return x509.load_pem_x509_certificate(cert).not_valid_after_utc


@pytest.fixture
def tls(tmp_path, authority):
    put(tmp_path / "ca.pem", authority.pem)
    return ClientTLSSettings(ca=tmp_path / "ca.pem", cert=tmp_path / "own.pem", key=tmp_path / "own.key")


async def who(request, context):
    return text(peer_principal(context).subject.rpartition("/")[2])


async def ticks(request, context):
    while True:
        yield await who(request, context)
        await asyncio.sleep(0.02)


async def until_answered(stub, value):
    while (await stub.Read(text())).value != value:  # noqa: ASYNC110  # nobody tells
        await asyncio.sleep(0.01)


async def until_drained(channel):
    while channel.connection.draining:  # noqa: ASYNC110  # nobody tells
        await asyncio.sleep(0.01)


def credentials(authority):
    cert, key = authority.issue([x509.DNSName("localhost")])
    return grpc.ssl_server_credentials([(key, cert)], authority.pem, require_client_auth=True)


async def test_a_certificate_that_expires_during_a_stream_leaves_it_alive(tmp_path, authority, tls):
    clock = Leap()
    expires = certify(tmp_path, authority, "before", ends=3)
    async with (
        serving(Server(Read=who, List=ticks), credentials=credentials(authority)) as target,
        make_factory(tls=tls, clock=Clock(clock)) as factory,
    ):
        channel = await factory.create_channel(target)
        stub = Stub(channel)
        async with asyncio.timeout(PATIENCE), stub.List(text(), timeout=PATIENCE) as stream:
            assert (await anext(stream)).value == "before"
            certify(tmp_path, authority, "after")
            clock.ahead += 2
            await until_answered(stub, "after")  # the new channel is warmed first
            while datetime.now(UTC) <= expires:
                assert (await anext(stream)).value == "before"
            assert (await anext(stream)).value == "before"
            assert (await stub.Read(text())).value == "after"
            assert channel.connection.draining == 1
        async with asyncio.timeout(PATIENCE):
            await until_drained(channel)


@pytest.mark.parametrize("what", ["half", "garbage", "stranger"])
async def test_what_cannot_be_used_changes_nothing(tmp_path, authority, tls, what):
    clock = Leap()
    certify(tmp_path, authority, "before")
    async with (
        serving(Server(Read=who), credentials=credentials(authority)) as target,
        make_factory(tls=tls, clock=Clock(clock)) as factory,
    ):
        channel = await factory.create_channel(target)
        stub = Stub(channel)
        assert (await stub.Read(text())).value == "before"
        if what == "half":
            put(tmp_path / "own.key", authority.issue([])[1])
        elif what == "garbage":
            put(tmp_path / "own.pem", b"no certificate")
        else:  # certificates that fit each other, and no server takes
            put(tmp_path / "ca.pem", Authority("A stranger").pem)
        clock.ahead += 2
        assert (await stub.Read(text())).value == "before"
        assert channel.connection.version == 1
        put(tmp_path / "ca.pem", authority.pem)


async def test_after_a_rotation_nothing_of_the_old_channel_is_left(tmp_path, authority, tls):
    clock = Leap()
    certify(tmp_path, authority, "0")
    async with (
        serving(Server(Read=who), credentials=credentials(authority)) as target,
        make_factory(tls=tls, clock=Clock(clock)) as factory,
    ):
        channel = await factory.create_channel(target)
        stub = Stub(channel)
        for number in range(1, 6):
            certify(tmp_path, authority, str(number))
            clock.ahead += 2
            async with asyncio.timeout(PATIENCE):
                await until_answered(stub, str(number))
        async with asyncio.timeout(PATIENCE):
            await until_drained(channel)
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith(("warming", "draining"))]
