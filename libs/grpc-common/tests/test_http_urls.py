"""What stands in a URL beside the path, and whatever a web framework would make of it, is in no log and no span."""

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from fastapi import FastAPI, Request
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind
from structlog.testing import capture_logs

from grpc_common.http_server import HTTPServer
from grpc_common.http_settings import HTTPServerSettings
from grpc_common.log_sink import LogSink
from grpc_common.logs import SinkHandler, render
from grpc_common.shown_url import shown_path, shown_url, without_queries

SECRET = "hunter2"
PATIENCE = 20.0


class Observed:
    """A server of FastAPI, which is told to trace and to measure, and all that comes of it."""

    def __init__(self) -> None:
        self.spans = InMemorySpanExporter()
        self.reader = InMemoryMetricReader()
        tracers = TracerProvider()
        tracers.add_span_processor(SimpleSpanProcessor(self.spans))
        self.app = FastAPI(telemetry={"tracer_provider": tracers, "meter_provider": MeterProvider([self.reader])})
        self.app.add_api_route("/items/{item_id}", _item)
        self.app.mount("/sub", _mounted(tracers))
        self.app.add_api_route("/broken", _broken)
        where = HTTPServerSettings(enabled=True, port=0)
        self.server = HTTPServer(self.app, where, tracer=tracers.get_tracer("grpc_common"))


async def _item(item_id: str) -> str:
    return item_id


def _mounted(tracers: TracerProvider) -> FastAPI:
    app = FastAPI(telemetry={"tracer_provider": tracers})
    app.add_api_route("/items/{item_id}", _item)
    return app


async def _broken(request: Request) -> None:
    raise ConnectionError(f"cannot do {request.method}")


@asynccontextmanager
async def observed() -> AsyncIterator[Observed]:
    found = Observed()
    await found.server.start()
    try:
        yield found
    finally:
        await found.server.stop(5)


@pytest.mark.parametrize(
    ("path", "status"),
    [("/items/7", 200), ("/sub/items/7", 200), ("/nowhere", 404), ("/broken", 500), ("/sub/no", 404)],
)
async def test_a_request_has_one_span_of_a_server_and_none_of_the_framework_it_is_written_in(
    path: str, status: int
) -> None:
    async with observed() as found, httpx.AsyncClient(timeout=PATIENCE, trust_env=False) as http:
        with capture_logs():
            assert (await http.get(f"{found.server.url}{path}?password={SECRET}")).status_code == status

    (only,) = found.spans.get_finished_spans()
    assert only.kind is SpanKind.SERVER
    assert (only.attributes or {})["url.path"] == path
    assert "url.query" not in (only.attributes or {})
    assert SECRET not in only.to_json()
    assert found.reader.get_metrics_data() is None


TARGETS = (
    f"/items/7?username=alice&password={SECRET}",
    f"/items/7%3Fpassword={SECRET}",
    f"/items/7%3fpassword={SECRET}",
    f"/items/7%253Fpassword={SECRET}",
    f"/items/7;password={SECRET}",
    f"/nowhere?{SECRET}",
    f"/nowhere?a?{SECRET}",
    f"/items/7#{SECRET}",
    f"/items/password={SECRET}",
    f"http://alice:{SECRET}@shop/items/7?token={SECRET}",
    f"http://{SECRET}@shop",
    f"//alice:{SECRET}@shop/items/7",
    f"*?{SECRET}",
)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS", "CONNECT"])
async def test_what_is_secret_in_a_target_is_in_no_line_and_no_span(method: str, target: str) -> None:
    async with observed() as found:
        with capture_logs() as lines:
            url = httpx.URL(found.server.url)
            reader, writer = await asyncio.open_connection(url.host, url.port)
            writer.write(f"{method} {target} HTTP/1.1\r\nhost: shop\r\nconnection: close\r\n\r\n".encode())
            async with asyncio.timeout(PATIENCE):
                reply = await reader.read()
            writer.close()

    assert reply.startswith(b"HTTP/1.1 ")
    assert [line["event"] for line in lines] == ["request"]
    assert SECRET not in str(lines)
    assert all(SECRET not in span.to_json() for span in found.spans.get_finished_spans())


PLAIN = st.text(st.characters(categories=["L", "N"], max_codepoint=0x7F), max_size=12)


@settings(max_examples=300)
@given(
    path=st.lists(PLAIN, max_size=4).map(lambda parts: "/" + "/".join(parts)),
    mark=st.sampled_from("?;#").flatmap(lambda mark: st.sampled_from([mark, f"%{ord(mark):02X}", f"%{ord(mark):02x}"])),
    rest=st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=30),
    authority=st.sampled_from(["", "http://alice:x@shop", "HTTPS://shop:8443"]),
)
@example(path="/", mark="?", rest="password=x", authority="http://alice:x@shop")
def test_the_path_is_shown_and_nothing_that_follows_it(path: str, mark: str, rest: str, authority: str) -> None:
    """Whatever stands before and behind the path of a target, the path alone is shown."""
    if not authority and path.startswith("//"):
        path = "/" + path.lstrip("/")
    assert shown_path(f"{authority}{path}{mark}{rest}".encode()) == path


@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
@given(st.binary(max_size=2000))
def test_any_octets_are_shown_in_bounds(raw: bytes) -> None:
    """Nothing that may be sent makes a line long, or breaks it."""
    shown = shown_path(raw)
    assert len(shown) <= 257
    assert "?" not in shown


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://issuer.example/keys", "https://issuer.example/keys"),
        (f"https://issuer.example/keys?key={SECRET}", "https://issuer.example/keys"),
        (f"https://issuer.example:8443/keys#{SECRET}", "https://issuer.example:8443/keys"),
        (f"https://alice:{SECRET}@issuer.example:8443/keys", "https://issuer.example:8443/keys"),
        (f"https://{SECRET}@[::1]:8443/keys?{SECRET}", "https://[::1]:8443/keys"),
    ],
)
def test_of_a_url_the_place_is_shown_and_no_secret(url: str, shown: str) -> None:
    assert shown_url(url) == shown


@pytest.mark.parametrize(
    "text",
    [
        f"Client error '401 Unauthorized' for url 'https://issuer.example/token?code={SECRET}'",
        f"GET https://issuer.example:8443/v1/users:find?name={SECRET}&x=1 failed",
        f"two: http://a/?{SECRET} and <https://b/c?d={SECRET}>",
        f"https://a.example?{SECRET}",
    ],
)
async def test_what_an_exception_or_another_library_says_has_no_query(text: str) -> None:
    error = json.loads(render(None, "error", {"event": "failed", "exc_info": ConnectionError(text)}))
    assert SECRET not in str(error)
    assert "://" in error["exception"]

    written: list[bytes] = []
    sink = LogSink(written.append, lambda _: b"")
    SinkHandler(sink).emit(logging.LogRecord("urllib3", logging.WARNING, "x.py", 1, text, (), None))
    sink.close()
    assert SECRET not in str(written)
    assert "://" in str(written)


@pytest.mark.parametrize("text", ["nothing here?", "what is a://b", "https://a.example/b: is it there?", "a ? b : c"])
def test_other_texts_are_left_alone(text: str) -> None:
    assert without_queries(text) == text


@pytest.mark.parametrize("part", ["://a", "://", "https://a:b@c/", "?://", "://a?"])
def test_hostile_texts_cost_no_time(part: str) -> None:
    began = time.thread_time()
    without_queries(part * 100_000 + "?")
    assert time.thread_time() - began < 2
