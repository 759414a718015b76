"""Channels: shared, closed with their last holder, and used only where they work."""

import asyncio
import gc
import os
import threading

import grpc
import pytest
from cryptography import x509
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from authority import Authority
from client_kit import Server, Stub, echo, make_factory, serving, text
from grpc_common.client.misuse import ChannelClosedError, ForeignLoopError, ForkedChannelError
from grpc_common.client.remote_error import RemoteError, RemoteUnavailableError
from grpc_common.client.target import TargetError, read_target
from grpc_common.settings import ClientTLSSettings, GRPCClientSettings, SettingsError

TARGETS = ["127.0.0.1:1", "127.0.0.1:2", "unix:/nowhere.sock"]


@settings(max_examples=100, deadline=None)
@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("open"), st.sampled_from(TARGETS), st.booleans()),
            st.tuples(st.just("close"), st.integers(0, 20)),
            st.tuples(st.just("drop"), st.integers(0, 20)),
        ),
        max_size=30,
    )
)
def test_there_are_as_many_channels_as_there_are_keys_in_use(steps):
    """R6: whatever is opened, closed twice or forgotten; and none is left.

    **Feature: grpc-code-review, Property 5: Channel Reuse Consistency**
    """

    async def scenario():
        factory = make_factory()
        held = []
        for step in steps:
            if step[0] == "open":
                channel = await factory.create_channel(step[1], secure=step[2])
                held.append(((step[1], step[2]), channel))
                del channel
            elif held and step[0] == "close":
                _, channel = held.pop(step[1] % len(held))
                await channel.close()
                await channel.close()
                with pytest.raises(ChannelClosedError):
                    Stub(channel).Read(text())
                del channel
            elif held:
                held.pop(step[1] % len(held))
                for _ in range(5):
                    await asyncio.sleep(0)
            assert factory.open_channels == len({key for key, _ in held})
            for key, channel in held:
                same = {id(other.connection) for its_key, other in held if its_key == key}
                assert same == {id(channel.connection)}
            channel = None
        await factory.close()
        assert factory.open_channels == 0
        assert all(channel.connection.closed for _, channel in held)

    asyncio.run(scenario())


async def test_a_new_channel_does_not_wait_for_what_another_waits_for():
    """Core would give it the connection of the other, in the midst of its pause after a failure."""
    async with make_factory() as before, make_factory() as after:
        async with serving(Server(Read=echo)) as target:
            first = Stub(await before.create_channel(target, secure=False))
            assert await first.Read(text("a")) == text("a")
        with pytest.raises(RemoteUnavailableError):
            await first.Write(text())
        async with serving(Server(Write=echo), port=int(target.rpartition(":")[2])):
            second = Stub(await after.create_channel(target, secure=False))
            assert await second.Write(text("b")) == text("b")


async def test_one_connection_serves_many_stubs_and_closes_with_the_last():
    async with make_factory() as factory, serving(Server(Read=echo)) as target:
        first = await factory.create_channel(target, secure=False)
        second = await factory.create_channel(target, secure=False)
        await first.close()
        with pytest.raises(ChannelClosedError, match="is closed"):
            Stub(first).Read(text())
        assert await Stub(second).Read(text("a")) == text("a")
        await second.close()
        assert factory.open_channels == 0


async def test_a_stub_keeps_its_channel():
    async with make_factory() as factory, serving(Server(Read=echo)) as target:
        stub = factory.create_stub(Stub, target, secure=False)
        gc.collect()
        assert await stub.Read(text("a")) == text("a")
        del stub
        for _ in range(5):
            await asyncio.sleep(0)
        assert factory.open_channels == 0


async def test_a_channel_of_grpc_aio_is_taken_and_left_open():
    async with (
        make_factory() as factory,
        serving(Server(Read=echo)) as target,
        grpc.aio.insecure_channel(target) as own,
    ):
        stub = factory.create_stub(Stub, own)
        assert await stub.Read(text("a")) == text("a")
        await factory.close()
        assert own.get_state() is grpc.ChannelConnectivity.READY


async def test_a_closed_channel_cuts_its_calls_as_an_error():
    async def silent(request, context):
        await asyncio.Event().wait()

    async with make_factory() as factory, serving(Server(Write=silent)) as target:
        channel = await factory.create_channel(target, secure=False)
        call = asyncio.ensure_future(Stub(channel).Write(text()))
        await channel.channel_ready()
        await channel.close()
        with pytest.raises(RemoteError, match="the channel was closed while the call ran"):
            await call


async def test_a_closing_channel_lets_calls_end():
    gate, inside = asyncio.Event(), asyncio.Event()

    async def slow(request, context):
        inside.set()
        await gate.wait()
        return request

    async with make_factory() as factory, serving(Server(Write=slow)) as target:
        channel = await factory.create_channel(target, secure=False)
        call = asyncio.ensure_future(Stub(channel).Write(text("a")))
        await inside.wait()
        closing = asyncio.create_task(channel.close(grace=10))
        await asyncio.sleep(0)
        gate.set()
        assert await call == text("a")
        await closing


async def test_another_loop_is_refused_at_once():
    async with make_factory() as factory:
        stub = Stub(await factory.create_channel("127.0.0.1:1", secure=False))
        caught = []

        def elsewhere():
            async def call():
                await stub.Read(text())

            try:
                asyncio.run(call())
            except ForeignLoopError as error:
                caught.append(error)

        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        assert len(caught) == 1


def test_no_loop_is_refused_at_once():
    async def make():
        return Stub(await make_factory().create_channel("127.0.0.1:1", secure=False))

    stub = asyncio.run(make())
    with pytest.raises(ForeignLoopError, match="belongs to another event loop"):
        stub.Read(text())


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
async def test_a_forked_process_is_refused_at_once():
    async with make_factory() as factory, serving(Server(Read=echo)) as target:
        stub = Stub(await factory.create_channel(target, secure=False))
        await stub.Read(text())
        child = os.fork()
        if child == 0:
            try:
                stub.Read(text())
            except ForkedChannelError:
                os._exit(7)
            finally:
                os._exit(1)
        _, status = await asyncio.to_thread(os.waitpid, child, 0)
        assert os.waitstatus_to_exitcode(status) == 7
        assert await stub.Read(text("a")) == text("a")  # the parent's goes on


@pytest.mark.parametrize(
    ("text", "uri"),
    [
        ("items:50051", "dns:///items:50051"),
        ("dns:///items:50051", "dns:///items:50051"),
        ("dns:items:50051", "dns:items:50051"),
        ("127.0.0.1:80", "dns:///127.0.0.1:80"),
        ("[::1]:80", "dns:///[::1]:80"),
        ("ipv4:10.0.0.1:80,10.0.0.2:80", "ipv4:10.0.0.1:80,10.0.0.2:80"),
        ("unix:/run/items.sock", "unix:/run/items.sock"),
        ("unix:///run/items.sock", "unix:/run/items.sock"),
        ("xds:///items", "xds:///items"),
    ],
)
def test_targets(text, uri):
    assert read_target(text).uri == uri


@pytest.mark.parametrize(
    "text",
    ["", " ", "items", "items:", ":80", "items:http", "items:0", "items:70000", "https://items:443", "a b:80", "::1:80",
     "[::x]:80", "unix:", "items:80/x"],
)  # fmt: skip
async def test_what_is_no_target(text):
    async with make_factory() as factory:
        with pytest.raises(TargetError):
            await factory.create_channel(text)


@settings(max_examples=300)
@given(st.text())
def test_a_target_is_read_or_refused(text):
    try:
        assert read_target(text).uri
    except TargetError as error:
        assert str(error)


async def test_credentials_need_a_secure_channel():
    async with make_factory() as factory:
        with pytest.raises(ValueError, match="leave out secure=False"):
            await factory.create_channel("items:1", secure=False, credentials=grpc.ssl_channel_credentials())


async def test_credentials_that_are_given_are_those_that_are_used():
    ours, theirs = Authority("ours"), Authority("theirs")
    certificate, key = ours.issue([x509.DNSName("localhost")])
    server = Server(Write=echo)
    async with serving(server, credentials=grpc.ssl_server_credentials([(key, certificate)])) as target:
        right, wrong = (grpc.ssl_channel_credentials(each.pem) for each in (ours, theirs))
        async with make_factory() as factory:
            for credentials, works in ((right, True), (wrong, False), (None, False)):
                channel = await factory.create_channel(target, credentials=credentials)
                for stub in (Stub(channel), factory.create_stub(Stub, target, credentials=credentials)):
                    if works:
                        assert await stub.Write(text()) == text()
                    else:
                        with pytest.raises(RemoteUnavailableError):
                            await stub.Write(text())


async def test_files_that_cannot_be_used_are_told_when_the_channel_is_made(tmp_path):
    async with make_factory(tls=ClientTLSSettings(ca=tmp_path / "ca.pem")) as factory:
        with pytest.raises(SettingsError, match=r"ca\.pem cannot be read: No such file"):
            await factory.create_channel("items:1")


def test_settings():
    assert GRPCClientSettings().max_retries == 3
    with pytest.raises(ValidationError, match="cert and key are set together"):
        ClientTLSSettings(cert="a.pem")
    with pytest.raises(ValidationError, match="at least retry_backoff_base"):
        GRPCClientSettings(retry_backoff_base=5, retry_backoff_max=1)
