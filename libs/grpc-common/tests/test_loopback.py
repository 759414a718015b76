"""What does not leave this machine goes by no proxy, whatever the environment says."""

import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from client_kit import Server, Stub, echo, make_factory, serving, text
from grpc_common.client.target import read_target
from grpc_common.loopback import is_loopback
from grpc_common.testing import in_process
from grpc_common.traces import exporter_to

HERE = ["127.0.0.1", "127.8.7.6", "::1", "[::1]", "::ffff:127.0.0.1", "localhost", "Localhost.", "items.localhost"]
ELSEWHERE = ["", "10.0.0.1", "0.0.0.0", "::", "items", "localhost.test", "notlocalhost", "127.0.0.1.test"]  # noqa: S104


@pytest.mark.parametrize("host", HERE)
def test_what_is_here(host):
    assert is_loopback(host)


@pytest.mark.parametrize("host", ELSEWHERE)
def test_what_is_not(host):
    assert not is_loopback(host)


@pytest.fixture
def proxy(monkeypatch):
    """A proxy that all variables name, and that serves nobody; yields who came."""
    came = []

    def refuse():
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            came.append(connection.recv(1000))
            connection.close()

    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "GRPC_PROXY"):
            monkeypatch.setenv(name, url)
            monkeypatch.setenv(name.lower(), url)
        for name in ("NO_PROXY", "no_proxy", "no_grpc_proxy"):
            monkeypatch.delenv(name, raising=False)
        thread = threading.Thread(target=refuse)
        thread.start()
        yield came
        server.shutdown(socket.SHUT_RDWR)
    thread.join()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "dns:///localhost", "ipv4:127.0.0.1"])
async def test_a_client_goes_straight_to_loopback(proxy, host):
    async with make_factory() as factory, serving(Server(Read=echo)) as target:
        channel = await factory.create_channel(f"{host}:{target.rpartition(':')[2]}", secure=False)
        assert await Stub(channel).Read(text("a"), timeout=10) == text("a")
    assert proxy == []


@pytest.mark.parametrize(
    ("target", "here"),
    [
        ("unix:/nowhere.sock", True),
        ("unix-abstract:name", True),
        ("vsock:2:1234", True),
        ("ipv6:[::1]:1", True),
        ("[::1]:1", True),
        ("items:50051", False),
        ("dns:///items:50051", False),
        ("ipv4:10.0.0.1:1", False),
        ("xds:///items", False),
    ],
)
def test_what_targets_are_here(target, here):
    assert read_target(target).on_this_machine == here


async def test_a_client_goes_elsewhere_by_the_proxy(proxy):
    async with make_factory() as factory:
        channel = await factory.create_channel("nowhere.test:1", secure=False)
        with pytest.raises(grpc.RpcError):
            await Stub(channel).Read(text("a"), timeout=5)
    assert proxy[0].startswith(b"CONNECT nowhere.test:1 ")


async def test_an_in_process_server_is_reached(proxy):
    async with in_process(Server(Read=echo).register) as channel:
        assert await Stub(channel).Read(text("a"), timeout=10) == text("a")
    assert proxy == []


@pytest.mark.parametrize("written", ["http://127.0.0.1:{}", "http://localhost:{}"])
def test_spans_go_straight_to_loopback(proxy, written):
    received = []
    method = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"

    class Collector(grpc.GenericRpcHandler):
        def service(self, details):
            assert details.method == method
            return grpc.unary_unary_rpc_method_handler(lambda request, _: received.append(request) or b"")

    server = grpc.server(ThreadPoolExecutor(1))
    server.add_generic_rpc_handlers([Collector()])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    provider = TracerProvider()
    exporter = exporter_to(written.format(port))
    try:
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        provider.get_tracer("test").start_span("call").end()
    finally:
        exporter.shutdown(timeout_millis=1000)
        server.stop(0)
    assert len(received) == 1
    assert proxy == []
