"""What the settings of serving HTTP do."""

import asyncio
import time
from contextlib import asynccontextmanager

import httpx
import pydantic
import pytest

from effects import shows
from grpc_common.http_server import HTTPServer
from grpc_common.http_settings import HTTPServerSettings
from grpc_common.settings import SettingsError
from localmesh import ports

PATIENCE = 20.0


class App:
    """Answers once it may."""

    def __init__(self):
        self.goes_on = asyncio.Event()
        self.goes_on.set()
        self.under_way = 0

    async def __call__(self, scope, receive, send):
        await receive()
        self.under_way += 1
        await self.goes_on.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
        await send({"type": "http.response.body", "body": b"done"})


@asynccontextmanager
async def started(app=None, **settings):
    server = HTTPServer(app or App(), HTTPServerSettings(enabled=True, **{"port": 0, **settings}))
    await server.start()
    try:
        yield server
    finally:
        await server.stop(0)


async def status(url, **request):
    async with httpx.AsyncClient(timeout=PATIENCE, trust_env=False) as client:
        return (await client.request(request.pop("method", "GET"), url, **request)).status_code


@shows(HTTPServerSettings, "host", "plaintext")
async def host(folder):
    async with started(host="127.0.0.2", plaintext="behind-mesh") as server:
        assert server.url.startswith("http://127.0.0.2:")
        assert await status(server.url) == 200
        with pytest.raises(httpx.ConnectError):
            await status(server.url.replace("127.0.0.2", "127.0.0.1"))
    with pytest.raises(pydantic.ValidationError, match="behind-mesh"):
        HTTPServerSettings(enabled=True, host="127.0.0.2")
    with pytest.raises(SettingsError, match="behind-mesh"):
        await HTTPServer(App(), HTTPServerSettings(host="127.0.0.2", port=0)).start()


@shows(HTTPServerSettings, "port")
async def port(folder):
    for wanted in (ports.free_port(), ports.free_port()):
        async with started(port=wanted):
            assert await status(f"http://127.0.0.1:{wanted}/") == 200


@shows(HTTPServerSettings, "unix_socket")
async def unix_socket(folder):
    async with (
        started(unix_socket=folder / "s"),
        httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=str(folder / "s"))) as client,
    ):
        assert (await client.get("http://shop/")).status_code == 200


@asynccontextmanager
async def connected(server):
    """A connection on which nothing is said yet."""
    host, port = server.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    yield reader, writer
    writer.close()


async def answered(reader, writer):
    """Whether a request on that connection is answered."""
    try:
        writer.write(b"GET / HTTP/1.1\r\nhost: shop\r\n\r\n")
        return (await asyncio.wait_for(reader.read(12), PATIENCE)).startswith(b"HTTP/1.1 200")
    except ConnectionError:
        return False


@shows(HTTPServerSettings, "max_connections")
async def max_connections(folder):
    for limit in (1, 3):
        async with started(max_connections=limit) as server, connected(server) as first:
            assert await answered(*first)
            async with connected(server) as second:
                assert await answered(*second) is (limit > 1)


@shows(HTTPServerSettings, "max_concurrent_requests")
async def max_concurrent_requests(folder):
    for limit in (1, 3):
        app = App()
        app.goes_on.clear()
        async with started(app, max_concurrent_requests=limit) as server:
            asked = [asyncio.ensure_future(status(server.url)) for _ in range(5)]
            async with asyncio.timeout(PATIENCE):
                while sum(each.done() for each in asked) < 5 - limit:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            app.goes_on.set()
            assert sorted(await asyncio.gather(*asked)) == [200] * limit + [503] * (5 - limit)


@shows(HTTPServerSettings, "max_head")
async def max_head(folder):
    for most, expected in ((1000, 431), (4000, 200)):
        async with started(max_head=most) as server:
            assert await status(server.url, headers={"x-large": "x" * 2000}) == expected


@shows(HTTPServerSettings, "max_body")
async def max_body(folder):
    for most, expected in ((100, 413), (4000, 200)):
        async with started(max_body=most) as server:
            assert await status(server.url, method="POST", content=b"x" * 2000) == expected


@shows(HTTPServerSettings, "request_timeout")
async def request_timeout(folder):
    for seconds, ends in ((0.3, True), (600.0, False)):
        async with started(request_timeout=seconds) as server, connected(server) as (reader, writer):
            writer.write(b"GET / HTT")
            assert await _ends(reader, within=PATIENCE if ends else 1.5) is ends


async def _ends(reader, within):
    try:
        await asyncio.wait_for(reader.read(), within)
    except TimeoutError:
        return False
    return True


@shows(HTTPServerSettings, "idle_timeout")
async def idle_timeout(folder):
    for seconds, ends in ((1, True), (600, False)):
        async with (
            started(idle_timeout=seconds, request_timeout=600.0) as server,
            connected(server) as (reader, writer),
        ):
            began = time.monotonic()
            assert await answered(reader, writer)
            assert await _ends(reader, within=PATIENCE if ends else 3.0) is ends
            assert not ends or time.monotonic() - began >= 1
