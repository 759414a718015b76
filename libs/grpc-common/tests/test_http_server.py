"""The HTTP server, by clients on real sockets: well-behaved ones, slow ones, and those that mean harm."""

import asyncio
import json
import os
import socket
import stat
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from fastapi import FastAPI
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from structlog.testing import capture_logs

from grpc_common.asgi import Receive, Scope, Send
from grpc_common.correlation import correlation_id
from grpc_common.http_server import HTTPServer
from grpc_common.http_settings import HTTPServerSettings
from grpc_common.listener import ListenError
from grpc_common.settings import SettingsError

PATIENCE = 20.0
EVERYWHERE = "0.0.0.0"  # noqa: S104
LARGE = 50 * 1024 * 1024


class App:
    """Answers by the path, and tells what it saw."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.go_on = asyncio.Event()
        self.cut = asyncio.Event()
        self.bodies: list[bytes] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = (await receive())["body"]
        self.bodies.append(body)
        match scope["path"]:
            case "/wait":
                self.entered.set()
                try:
                    await self.go_on.wait()
                except asyncio.CancelledError:
                    self.cut.set()
                    raise
                await answer(send, b"waited")
            case "/for-ever":
                await send({"type": "http.response.start", "status": 200, "headers": []})
                await send({"type": "http.response.body", "body": b"first", "more_body": True})
                self.entered.set()
                await self.go_on.wait()
                await send({"type": "http.response.body", "body": b"last"})
            case "/large":
                await answer(send, b"x" * LARGE)
            case "/broken":
                raise ConnectionError("cannot reach postgresql://shop:hunter2@db/shop")
            case "/half":
                await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"9")]})
                await send({"type": "http.response.body", "body": b"half", "more_body": True})
                raise ConnectionError("cannot reach postgresql://shop:hunter2@db/shop")
            case "/span":
                await answer(send, f"{trace.get_current_span().get_span_context().trace_id:032x}".encode())
            case "/identity":
                await answer(send, correlation_id().encode())
            case _:
                await answer(send, body)


async def answer(send: Send, body: bytes) -> None:
    headers = [(b"content-length", str(len(body)).encode()), (b"x-correlation-id", b"the application's")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture
def app() -> App:
    return App()


type Serve = Callable[..., Any]


@pytest.fixture
def serve(app: App) -> Serve:
    @asynccontextmanager
    async def serve(*, lame_duck_seconds: float = 0.0, **how: Any) -> AsyncIterator[HTTPServer]:
        where = HTTPServerSettings(**({"enabled": True, "port": 0} | how))
        server = HTTPServer(app, where, lame_duck_seconds=lame_duck_seconds)
        await server.start()
        try:
            yield server
        finally:
            await server.close()

    return serve


@pytest.fixture
def folder() -> Any:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


@pytest_asyncio.fixture
async def failures() -> list[Any]:
    """What went wrong where nobody waits for it."""
    found: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: found.append(context))
    return found


@asynccontextmanager
async def client(server: HTTPServer, **how: Any) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE, trust_env=False, **how) as client:
        yield client


@asynccontextmanager
async def connected(server: HTTPServer) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    url = httpx.URL(server.url)
    reader, writer = await asyncio.open_connection(url.host, url.port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def said(server: HTTPServer, data: bytes) -> bytes:
    """Sends `data` and returns all that comes until the server closes."""
    async with connected(server) as (reader, writer):
        writer.write(data)
        return await end(reader)


async def end(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(PATIENCE):
        try:
            return await reader.read()
        except ConnectionResetError:
            return b""


async def test_it_answers_on_a_port_of_loopback(serve: Serve) -> None:
    async with serve() as server, client(server) as http:
        reply = await http.post("/echo", content=b"hello")

        assert (reply.status_code, reply.content) == (200, b"hello")
        assert "server" not in reply.headers
        assert reply.headers["date"]


async def test_it_answers_on_a_unix_socket_that_only_this_user_can_open(serve: Serve, folder: Path) -> None:
    path = folder / "http.sock"
    async with serve(unix_socket=path) as server:
        assert server.url == f"unix:{path}"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        transport = httpx.AsyncHTTPTransport(uds=str(path))
        with capture_logs() as lines:
            async with httpx.AsyncClient(transport=transport, base_url="http://shop") as http:
                assert (await http.post("/", content=b"hello")).content == b"hello"
        assert lines[-1]["peer"] == "unix:"
        await server.stop(1)
        assert not path.exists()


async def test_the_socket_of_a_dead_process_is_taken_over_and_that_of_a_living_one_is_not(
    serve: Serve, folder: Path
) -> None:
    path = folder / "http.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(os.fspath(path))
    async with serve(unix_socket=path):
        with pytest.raises(ListenError, match="in use by another process"):
            async with serve(unix_socket=path):
                pass


async def test_a_taken_port_is_told_with_what_to_do(serve: Serve) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ListenError, match=f"port {port} on 127.0.0.1 is taken by another process: stop it"):
            async with serve(port=port):
                pass


async def test_in_the_clear_it_listens_on_loopback_unless_a_sidecar_encrypts(serve: Serve) -> None:
    with pytest.raises(ValueError, match="HTTP is served without TLS"):
        HTTPServerSettings(enabled=True, host=EVERYWHERE)
    with pytest.raises(SettingsError, match="HTTP is served without TLS"):
        await HTTPServer(App(), HTTPServerSettings(host=EVERYWHERE)).start()
    async with serve(host=EVERYWHERE, plaintext="behind-mesh"):
        pass


async def test_a_request_leaves_one_line_without_its_query(serve: Serve) -> None:
    async with serve() as server, client(server) as http:
        with capture_logs() as lines:
            await http.get("/path?token=hunter2", headers={"x-correlation-id": "order-7"})

        (line,) = lines
        assert {key: line[key] for key in ("event", "method", "path", "status", "correlation_id", "log_level")} == {
            "event": "request",
            "method": "GET",
            "path": "/path",
            "status": 200,
            "correlation_id": "order-7",
            "log_level": "info",
        }
        assert line["peer"].startswith("ipv4:127.0.0.1:")
        assert "hunter2" not in str(lines)


@pytest.mark.parametrize("name", ["x-correlation-id", "x-request-id"])
async def test_a_sane_correlation_id_is_kept_and_sent_back(serve: Serve, name: str) -> None:
    async with serve() as server, client(server) as http:
        reply = await http.get("/identity", headers={name: "order-7"})

        assert reply.text == "order-7"
        assert reply.headers.get_list("x-correlation-id") == ["order-7"]
        assert (await http.get("/identity", headers={name: 'forged" level="error'})).text.isalnum()


async def test_an_error_is_told_by_its_id_and_logged_once(serve: Serve) -> None:
    async with serve() as server, client(server) as http:
        with capture_logs() as lines:
            reply = await http.get("/broken")

        assert reply.status_code == 500
        assert reply.headers["content-type"] == "application/problem+json"
        assert [line["event"] for line in lines] == ["request failed", "request"]
        assert f"(error id {lines[0]['error_id']})" in reply.json()["detail"]
        assert lines[1]["error_id"] == lines[0]["error_id"]
        assert "hunter2" not in reply.text


async def test_an_answer_that_fails_in_its_midst_looks_cut_to_the_client(serve: Serve) -> None:
    async with serve() as server, client(server) as http:
        with pytest.raises(httpx.RemoteProtocolError):
            await http.get("/half")


async def test_a_request_is_a_span_in_its_callers_trace_and_its_line_says_which(app: App) -> None:
    provider, spans = TracerProvider(), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    server = HTTPServer(app, HTTPServerSettings(enabled=True, port=0), tracer=provider.get_tracer("test"))
    await server.start()
    parent = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
    async with client(server) as http:
        assert (await http.get("/span?token=hunter2", headers=parent)).text == "0af7651916cd43dd8448eb211c80319c"
        await http.get("/broken")
        await http.request("BREW", "/")
        with pytest.raises(httpx.RemoteProtocolError):
            await http.get("/half")
    await server.stop(5)

    first, broken, odd, half = spans.get_finished_spans()
    assert first.parent is not None
    assert (first.name, first.kind, first.parent.span_id) == ("GET", SpanKind.SERVER, 0xB7AD6B7169203331)
    assert dict(first.attributes or {}) == {
        "http.request.method": "GET",
        "http.response.status_code": 200,
        "network.protocol.version": "1.1",
        "server.address": "127.0.0.1",
        "server.port": int(server.url.rpartition(":")[2]),
        "url.path": "/span",
        "url.scheme": "http",
    }
    assert (broken.status.status_code, broken.parent) == (StatusCode.ERROR, None)
    assert (broken.attributes or {})["error.type"] == "500"
    assert (odd.name, (odd.attributes or {})["http.request.method"]) == ("HTTP", "_OTHER")
    assert (odd.attributes or {})["http.request.method_original"] == "BREW"
    # The client has seen 200, and then a cut: of that the status says nothing.
    assert half.status.status_code is StatusCode.ERROR
    assert "Error" in str((half.attributes or {})["error.type"])


async def test_the_span_of_a_route_has_its_pattern_for_a_name() -> None:
    provider, spans = TracerProvider(), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    gateway = FastAPI()

    @gateway.get("/items/{item_id}")
    async def item(item_id: str) -> str:
        return item_id

    server = HTTPServer(gateway, HTTPServerSettings(enabled=True, port=0), tracer=provider.get_tracer("test"))
    await server.start()
    async with client(server) as http:
        assert (await http.get("/items/7")).json() == "7"
        assert (await http.get("/nowhere?password=hunter2")).status_code == 404
        assert (await http.request("BREW", "/items/7")).status_code == 405
        assert (await http.get("/items/7", headers={"host": "x" * 300 + ":1"})).status_code == 200
        assert (await http.get("/items/7", headers={"host": "[::1]:8443"})).status_code == 200
        assert (await http.get("/items/7", headers={"host": "items.localhost"})).status_code == 200
    await server.stop(5)

    found = spans.get_finished_spans()
    route = "GET /items/{item_id}"
    assert [span.name for span in found] == [route, "GET", "HTTP /items/{item_id}", route, route, route]
    assert not any("hunter2" in span.to_json() for span in found)
    where = [
        ((span.attributes or {}).get("server.address"), (span.attributes or {}).get("server.port")) for span in found
    ]
    assert where[3:] == [(None, None), ("::1", 8443), ("items.localhost", None)]
    assert [span.status.status_code for span in found] == [StatusCode.UNSET] * 6


async def test_a_head_that_is_too_large_is_refused_also_in_one_piece(serve: Serve, app: App) -> None:
    async with serve(max_head=1024) as server, client(server) as http:
        with capture_logs() as lines:
            for method, path in (("X" * 2000, "/"), ("GET", f"/{'x' * 2000}"), ("GET", f"/?{'x' * 2000}")):
                assert (await http.request(method, path)).status_code == 431
        assert max(len(str(line)) for line in lines) < 1000
        reply = await http.get("/", headers={"x-large": "x" * 2000})
        assert (reply.status_code, reply.json()["status"]) == (431, 431)
        assert b"HTTP/1.1 400" in await said(server, b"GET / HTTP/1.1\r\nx-large: " + b"x" * 2000)
        assert app.bodies == []
        assert (await http.get("/")).status_code == 200


@pytest.mark.parametrize("size", [1025, 300_000])
async def test_a_body_that_is_too_large_is_refused_whether_announced_or_not(serve: Serve, app: App, size: int) -> None:
    async def parts() -> AsyncIterator[bytes]:
        for at in range(0, size, 1025):
            yield b"x" * min(1025, size - at)

    async with serve(max_body=1024) as server, client(server) as http:
        assert (await http.post("/", content=b"x" * size)).status_code == 413
        assert (await http.post("/", content=parts())).status_code == 413
        assert app.bodies == []
        assert (await http.post("/", content=b"x" * 1024)).status_code == 200


async def test_what_is_no_http_once_the_answer_has_begun_ends_the_connection(serve: Serve, failures: list[Any]) -> None:
    async with serve(max_body=1024) as server, connected(server) as (reader, writer):
        head = b"POST / HTTP/1.1\r\nhost: shop\r\ntransfer-encoding: chunked\r\n\r\n"
        writer.write(head + b"800\r\n" + b"x" * 0x800 + b"\r\n")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 413 ")
        writer.write(b"zz\r\n")
        assert b"HTTP/1.1" not in await end(reader)
    assert failures == []


async def test_a_client_that_waits_for_leave_is_refused_before_it_sends(serve: Serve) -> None:
    async with serve(max_body=1024) as server:
        head = b"POST / HTTP/1.1\r\nhost: shop\r\ncontent-length: 2000\r\nexpect: 100-continue\r\n\r\n"
        assert (await said(server, head)).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("sent", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nhost: shop\r\n"])
async def test_a_request_that_does_not_come_is_not_waited_for(serve: Serve, sent: bytes) -> None:
    async with serve(request_timeout=0.2) as server:
        assert await said(server, sent) == b""


async def test_a_second_request_that_does_not_come_whole_is_not_waited_for(serve: Serve) -> None:
    async with serve(request_timeout=3) as server, connected(server) as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\nhost: shop\r\n\r\n")
        assert await reader.readuntil(b"\r\n\r\n")
        writer.write(b"GET / HT")
        assert await end(reader) == b""


async def test_a_body_that_does_not_come_whole_is_not_waited_for(serve: Serve, app: App) -> None:
    async with serve(request_timeout=3) as server:
        sent = b"POST / HTTP/1.1\r\nhost: shop\r\ncontent-length: 9\r\n\r\nhalf"
        assert (await said(server, sent)).startswith(b"HTTP/1.1 408 ")
        assert app.bodies == []


async def test_a_slow_answer_is_not_cut_by_the_time_for_a_request(serve: Serve, app: App) -> None:
    async with (
        serve(request_timeout=3) as server,
        client(server) as http,
        http.stream("GET", "/for-ever") as reply,
    ):
        parts = reply.aiter_raw()
        assert await anext(parts) == b"first"
        await asyncio.sleep(3.5)
        app.go_on.set()
        assert await anext(parts) == b"last"


async def test_an_idle_connection_is_closed(serve: Serve) -> None:
    async with serve(idle_timeout=1) as server, connected(server) as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\nhost: shop\r\n\r\n")
        assert b"200" in await end(reader)


async def test_no_more_requests_are_worked_on_than_there_may_be(serve: Serve, app: App) -> None:
    async with serve(max_concurrent_requests=1) as server, client(server) as http:
        first = asyncio.create_task(http.get("/wait"))
        await app.entered.wait()
        refused = await http.get("/")
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        app.go_on.set()
        assert (await first).text == "waited"
        assert (await http.get("/")).status_code == 200


async def test_slow_bodies_keep_nobody_out(serve: Serve) -> None:
    async with serve(max_concurrent_requests=1) as server, client(server) as http, connected(server) as (_, writer):
        writer.write(b"POST / HTTP/1.1\r\nhost: shop\r\ncontent-length: 9\r\n\r\nhalf")
        await writer.drain()
        assert (await http.get("/")).status_code == 200


async def test_no_more_connections_are_kept_than_there_may_be(serve: Serve) -> None:
    async with serve(max_connections=2) as server, connected(server), connected(server):
        with capture_logs() as lines:
            assert await said(server, b"GET / HTTP/1.1\r\nhost: shop\r\n\r\n") == b""
            assert await said(server, b"GET / HTTP/1.1\r\nhost: shop\r\n\r\n") == b""
        assert [line["event"] for line in lines] == ["connections refused"]


async def test_a_client_that_goes_before_its_answer_is_in_the_log(serve: Serve, app: App) -> None:
    async with serve() as server:
        with capture_logs() as lines:
            async with connected(server) as (_, writer):
                writer.write(b"POST / HTTP/1.1\r\nhost: shop\r\ncontent-length: 9\r\n\r\nhalf")
                await writer.drain()
            await server.stop(5)
        assert [line["status"] for line in lines] == [499]


async def test_requests_there_are_come_to_their_end(serve: Serve, app: App) -> None:
    async with serve() as server, client(server) as http:
        request = asyncio.create_task(http.get("/wait"))
        await app.entered.wait()
        stopping = asyncio.create_task(server.stop(PATIENCE))
        await refused(server)
        assert not stopping.done()
        app.go_on.set()
        reply = await request
        assert (reply.text, reply.headers["connection"]) == ("waited", "close")
        await stopping


async def refused(server: HTTPServer) -> None:
    """Returns once nobody can connect any more."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                async with connected(server):
                    await asyncio.sleep(0.01)
            except ConnectionError:
                return


async def test_in_the_lame_duck_time_requests_are_served_and_connections_given_back(serve: Serve) -> None:
    async with serve(lame_duck_seconds=5) as server, client(server) as http:
        assert "connection" not in (await http.get("/")).headers
        stopping = asyncio.create_task(server.stop(1))
        await asyncio.sleep(0)
        reply = await http.get("/")
        assert (reply.status_code, reply.headers["connection"]) == (200, "close")
        await stopping
        with pytest.raises(httpx.ConnectError):
            await http.get("/")


async def test_what_is_not_done_in_time_is_told_and_cut(serve: Serve, app: App) -> None:
    async with serve() as server, client(server) as http:
        request = asyncio.create_task(http.get("/wait"))
        await app.entered.wait()
        await server.stop(0.1)
        assert app.cut.is_set()
        assert (await request).status_code == 503


async def test_streams_that_go_on_for_ever_are_asked_to_end(serve: Serve, app: App) -> None:
    async with serve() as server, client(server) as http:
        server.on_drain(app.go_on.set)
        async with http.stream("GET", "/for-ever") as reply:
            parts = reply.aiter_raw()
            assert await anext(parts) == b"first"
            stopping = asyncio.create_task(server.stop(PATIENCE))
            assert await anext(parts) == b"last"
            await stopping


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET / HTTP/1.1\r\nhost: sh",
        b"GET / HTTP/1.1\r\nhost: shop\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: shop\r\ncontent-length: 9\r\n\r\nhalf",
        b"GET /large HTTP/1.1\r\nhost: shop\r\n\r\n",
        b"GET /for-ever HTTP/1.1\r\nhost: shop\r\n\r\n",
    ],
    ids=["silent", "half a head", "idle", "half a body", "does not read", "waits for ever"],
)
async def test_no_client_holds_up_the_stop(serve: Serve, app: App, sent: bytes) -> None:
    async with serve() as server, connected(server) as (reader, writer):
        writer.write(sent)
        await writer.drain()
        if b"/ HTTP/1.1\r\nhost: shop\r\n\r\n" in sent:
            await reader.readuntil(b"\r\n\r\n")
        elif b"large" in sent or b"ever" in sent:
            await reader.read(1)
        async with asyncio.timeout(PATIENCE):
            await server.stop(0.2)
        assert len(await end(reader)) < LARGE  # who does not read is cut off


async def test_who_does_not_read_keeps_no_place(app: App, serve: Serve) -> None:
    """An answer that waits to be read keeps those that come after it on its connection, each in its place."""
    async with serve(request_timeout=0.5, max_concurrent_requests=2) as server, AsyncExitStack() as stack:
        for _ in range(2):
            _, writer = await stack.enter_async_context(connected(server))
            writer.write(b"GET /large HTTP/1.1\r\nhost: shop\r\n\r\nGET /large HTTP/1.1\r\nhost: shop\r\n\r\n")
        async with client(server) as http, asyncio.timeout(PATIENCE):
            while len(app.bodies) < 4 or (await http.get("/")).status_code != 200:  # noqa: ASYNC110
                await asyncio.sleep(0.01)


async def test_who_reads_slowly_is_answered_to_the_end(serve: Serve) -> None:
    async with serve(request_timeout=3) as server, connected(server) as (reader, writer):
        writer.write(b"GET /large HTTP/1.1\r\nhost: shop\r\nconnection: close\r\n\r\n")
        read = 0
        while chunk := await reader.read(1024 * 1024):
            read += len(chunk)
            await asyncio.sleep(0.1)  # five seconds for all of it at least
        assert read > LARGE


async def test_it_is_stopped_only_once(serve: Serve) -> None:
    async with serve() as server:
        await server.stop(1)
        await server.stop(1)
    await server.wait_for_termination()


HEADS = st.lists(
    st.sampled_from(
        [
            *(b"GET / HTTP/1.1\r\n", b"POST /x HTTP/1.1\r\n", b"HEAD / HTTP/1.0\r\n", b"CONNECT a:1 HTTP/1.1\r\n"),
            *(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"GET http://a/b?c HTTP/1.1\r\n", b"GET /%ff%00 HTTP/1.1\r\n"),
            *(
                b"host: shop\r\n",
                b"content-length: 4\r\n",
                b"content-length: -1\r\n",
                b"content-length: 99999999999\r\n",
            ),
            *(b"transfer-encoding: chunked\r\n", b"4\r\nabcd\r\n", b"0\r\n\r\n", b"zz\r\n", b"upgrade: websocket\r\n"),
            *(
                b"connection: upgrade\r\n",
                b"connection: close\r\n",
                b"expect: 100-continue\r\n",
                b"\r\n",
                b"abcd",
                b"\x00",
            ),
            *(b"x-correlation-id: \xff\r\n", b" folded\r\n", b"\x16\x03\x01\x02\x00\x01"),
        ]
    ),
    max_size=12,
).map(b"".join)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.one_of(HEADS, st.binary(max_size=64)), min_size=1, max_size=4))
@example([b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n4\r\nabcd\r\n", b"zz\r\n"])
@example([b"GET /large HTTP/1.1\r\nhost: a\r\n\r\n", b"\x00\x00\r\n\r\n"])
@example([b"CONNECT a:1 HTTP/1.1\r\nhost: a\r\n\r\n"])
@example([b"GET / HTTP/1.1\r\nhost: a\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\n"])
async def test_wild_bytes_harm_nobody(serve: Serve, failures: list[Any], pieces: list[bytes]) -> None:
    """Whatever comes in whatever pieces: no failure of the server's own, and the next client is served."""
    with capture_logs() as lines:
        async with serve(max_body=1024, request_timeout=5) as server:
            async with connected(server) as (reader, writer):
                for piece in pieces:
                    writer.write(piece)
                    await asyncio.sleep(0)
                with suppress(OSError):  # it may have closed already
                    writer.write_eof()
                assert b"HTTP/1.1 500" not in await end(reader)
            async with client(server) as http:
                assert (await http.post("/", content=b"hello")).content == b"hello"
            async with asyncio.timeout(PATIENCE):
                await server.stop(2 * PATIENCE)
    assert failures == []
    assert [line for line in lines if line["log_level"] == "error"] == []
    assert json.dumps(lines)
