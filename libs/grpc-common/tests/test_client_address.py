"""Where a call comes from, on real connections: what a caller claims is not believed, what our sidecar says is."""

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grpc_common.chain import Chain
from grpc_common.client_address import address_of, client_address, network_of, told_address
from grpc_common.interceptors.error import ErrorInterceptor
from grpc_common.interceptors.rate_limit import RateLimitInterceptor
from limited_service import Gate, begin

FORGED = (("x-envoy-external-address", "203.0.113.9"), ("x-forwarded-for", "203.0.113.9"))
SIDECARS = (("x-envoy-external-address", "192.0.2.7"), ("x-forwarded-for", "203.0.113.9, 192.0.2.7"))


async def seen(target, metadata=(), *, listen=None, **options):
    """What a server that listens there makes of a call with this metadata."""
    addresses = []

    async def note(context):
        addresses.append(client_address(context, **options))

    server = grpc.aio.server()
    Gate(note).register(server)
    port = server.add_insecure_port(listen or target)
    await server.start()
    try:
        async with grpc.aio.insecure_channel(target.replace(":0", f":{port}")) as channel:
            assert await begin(channel, "Plain", metadata=metadata).code() is grpc.StatusCode.OK
    finally:
        await server.stop(None)
    return addresses[0]


@pytest.mark.parametrize(("target", "address"), [("127.0.0.1:0", "127.0.0.1"), ("[::1]:0", "::1")])
async def test_who_connects_over_tcp_is_known_by_the_connection(target, address):
    assert await seen(target) == address
    assert await seen(target, FORGED) == address


async def test_behind_a_mesh_a_sidecar_on_a_loopback_address_is_believed():
    assert await seen("127.0.0.1:0", SIDECARS, behind_mesh=True) == "192.0.2.7"
    assert await seen("[::1]:0", SIDECARS, behind_mesh=True) == "192.0.2.7"
    assert await seen("127.0.0.1:0", behind_mesh=True) == ""


async def test_on_a_unix_socket_the_sidecar_is_believed(tmp_path):
    target = f"unix:{tmp_path}/service.sock"
    assert await seen(target, SIDECARS) == "192.0.2.7"
    assert await seen(target) == ""


def test_behind_a_mesh_other_machines_are_not_believed():
    assert address_of("ipv4:198.51.100.4:50000", FORGED, behind_mesh=True) == "198.51.100.4"
    assert address_of("ipv6:%5B2001:db8::4%5D:50000", FORGED, behind_mesh=True) == "2001:db8::4"
    assert address_of("ipv6:[2001:db8::4]:50000", FORGED) == "2001:db8::4"


@pytest.mark.parametrize(
    ("headers", "address"),
    [
        ([("x-forwarded-for", "203.0.113.9, 192.0.2.7")], "192.0.2.7"),
        ([("x-forwarded-for", "203.0.113.9"), ("x-forwarded-for", "192.0.2.7")], "192.0.2.7"),
        ([("x-forwarded-for", "192.0.2.7, 10.0.0.1"), ("x-envoy-external-address", "192.0.2.7")], "192.0.2.7"),
        ([("x-forwarded-for", "2001:DB8::0:1")], "2001:db8::1"),
        ([("x-forwarded-for", "::ffff:192.0.2.7")], "192.0.2.7"),
        ([("x-forwarded-for", "192.0.2.7, ")], ""),
        ([("x-forwarded-for", "192.0.2.7, unknown")], ""),
        ([("x-forwarded-for", "")], ""),
        ([("x-forwarded-for-bin", b"192.0.2.7"), ("x-forwarded-for", b"192.0.2.7")], ""),
        ([("x-real-ip", "192.0.2.7"), ("forwarded", "for=192.0.2.7")], ""),
        ([], ""),
    ],
)
def test_the_edge_speaks_last(headers, address):
    assert told_address(headers) == address


@given(peer=st.text(), value=st.text())
def test_wild_text_is_no_address(peer, value):
    headers = [("x-forwarded-for", value), ("x-envoy-external-address", value)]
    for text in (peer, f"ipv4:{peer}", f"ipv6:[{peer}]:1", f"unix:{peer}"):
        address = address_of(text, headers, behind_mesh=True)
        assert address == "" or network_of(address)


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:DB8:1:2::", "2001:db8:1:2::/64"),
        ("::1", "::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        ("no address", "no address"),
    ],
)
def test_all_addresses_of_a_site_are_one(address, network):
    assert network_of(address) == network


@pytest.mark.parametrize("listen", ["unix", "loopback", "loopback, without a mesh"])
async def test_callers_behind_a_sidecar_do_not_share_a_rate(tmp_path, listen):
    async def done(context):
        pass

    limit = RateLimitInterceptor(lambda: 1000.0, **({"behind_mesh": True} if listen == "loopback" else {}))
    server = grpc.aio.server(interceptors=[Chain([ErrorInterceptor(), limit])])
    Gate(done).register(server)
    target = f"unix:{tmp_path}/service.sock" if listen == "unix" else "127.0.0.1:0"
    port = server.add_insecure_port(target)
    await server.start()
    try:
        async with grpc.aio.insecure_channel(target.replace(":0", f":{port}")) as channel:

            async def ask(address):
                metadata = (("x-forwarded-for", f"203.0.113.9, {address}"),)
                return await begin(channel, "Rated", metadata=metadata).code()

            assert [await ask("192.0.2.1") for _ in range(4)][3] is grpc.StatusCode.RESOURCE_EXHAUSTED
            if listen == "loopback, without a mesh":  # all one caller, whatever they say
                assert await ask("192.0.2.2") is grpc.StatusCode.RESOURCE_EXHAUSTED
                return
            assert await ask("192.0.2.2") is grpc.StatusCode.OK
            answers = [await ask(f"2001:db8::{number:x}") for number in range(4)]
            assert answers[3] is grpc.StatusCode.RESOURCE_EXHAUSTED
    finally:
        await server.stop(None)
