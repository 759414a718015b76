"""Where spans go, what they are called, and what is in none of them."""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from mesh_command import MeshCommand
from relayed import Front

RELAYS = Path(__file__).parent / "relay" / "topology.toml"
SECRET = "hunter2"
SAMPLED = "00-{}-b7ad6b7169203331-01"
PATIENCE = 30.0


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Keeps what it is sent, as a collector of OpenTelemetry would take it."""

    def __init__(self) -> None:
        self.requests: list[Any] = []

    def Export(self, request: Any, context: Any) -> Any:
        self.requests.append(request)
        return trace_service_pb2.ExportTraceServiceResponse()

    @property
    def spans(self) -> list[SimpleNamespace]:
        return [
            SimpleNamespace(
                service=next(
                    pair.value.string_value for pair in given.resource.attributes if pair.key == "service.name"
                ),
                name=span.name,
                kind=span.kind,
                trace=span.trace_id.hex(),
                id=span.span_id.hex(),
                parent=span.parent_span_id.hex(),
                attributes=_texts(span.attributes),
            )
            for request in tuple(self.requests)
            for given in request.resource_spans
            for scope in given.scope_spans
            for span in scope.spans
        ]

    def trace(self, trace_id: str, *services: str) -> list[SimpleNamespace]:
        """The spans of a trace, once all these have sent theirs."""
        give_up = time.monotonic() + PATIENCE
        while True:
            found = [span for span in self.spans if span.trace == trace_id]
            if set(services) <= {span.service for span in found}:
                return found
            assert time.monotonic() < give_up, [(span.service, span.name) for span in found]
            time.sleep(0.2)


def _texts(attributes: Any) -> dict[str, str]:
    return {pair.key: pair.value.string_value for pair in attributes}


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    collector = Collector()
    server = grpc.server(ThreadPoolExecutor(2))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, server)
    collector.target = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    yield collector
    server.stop(0).wait()


@pytest.fixture(scope="module")
def mesh(collector, tmp_path_factory):
    """A mesh that sends its spans on, in which a front calls a relay."""
    command = MeshCommand(tmp_path_factory.mktemp("spans"), RELAYS)
    command.up("--otlp", collector.target)
    yield command
    assert command("down")[0] == 0


@pytest.fixture
def channel(mesh):
    credentials = grpc.ssl_channel_credentials(mesh.root_certificate())
    with grpc.secure_channel(f"localhost:{mesh.port}", credentials) as channel:
        yield channel


@pytest.fixture
def http(mesh):
    with mesh.rest() as http:
        yield http


def test_a_call_is_asked_and_answered_at_each_hop_under_the_name_of_its_method(mesh, collector):
    Front(mesh)("Echo", "hello")
    through = {"ingress", "front-sidecar", "front", "relay-sidecar", "relay"}
    give_up = time.monotonic() + PATIENCE
    while not (traces := [span.trace for span in collector.spans if span.service == "relay"]):
        assert time.monotonic() < give_up
        time.sleep(0.2)
    spans = collector.trace(traces[0], *through)
    by_id = {span.id: span for span in spans}
    sides = sorted((span.service, span.name.rpartition("/")[2], Span.SpanKind.Name(span.kind)[10:]) for span in spans)
    assert sides == [
        ("front", "Call", "SERVER"),
        ("front-sidecar", "Call", "CLIENT"),
        ("front-sidecar", "Call", "SERVER"),
        ("front-sidecar", "Echo", "CLIENT"),
        ("front-sidecar", "Echo", "SERVER"),
        ("ingress", "Call", "CLIENT"),
        ("ingress", "Call", "SERVER"),
        ("relay", "Echo", "SERVER"),
        ("relay-sidecar", "Echo", "CLIENT"),
        ("relay-sidecar", "Echo", "SERVER"),
    ]
    # What makes an edge of a service graph: a server's span right below a client's of somebody else. The test's front
    # calls by a channel of grpc.aio's own, which traces nothing.
    below = [(by_id[span.parent], span) for span in spans if span.parent in by_id]
    client, server = Span.SPAN_KIND_CLIENT, Span.SPAN_KIND_SERVER
    edges = {
        (asks.service, answers.service) for asks, answers in below if (asks.kind, answers.kind) == (client, server)
    }
    assert edges == {
        ("ingress", "front-sidecar"),
        ("front-sidecar", "front"),
        ("front-sidecar", "relay-sidecar"),
        ("relay-sidecar", "relay"),
    }
    same = [(outer.service, inner.service) for outer, inner in below if outer.kind == inner.kind]
    assert same == [("front", "front-sidecar")]


def test_the_mesh_goes_on_to_show_what_it_sends_on(mesh, collector):
    Front(mesh)("Echo", "shown")
    latest = [span.trace for span in collector.spans if span.service == "relay"][-1]
    collector.trace(latest, "ingress", "relay")
    status, out, err = mesh("trace", latest)
    assert (status, err) == (0, "")
    assert "RelayService/Echo" in out
    assert "→ FrontService/Call" in out
    (found,) = json.loads(mesh("trace", latest, "--json")[1])
    assert {span["service"] for span in found["spans"]} >= {"ingress", "front", "relay"}


def test_health_checks_are_not_traced_whatever_their_caller_wants(channel, collector, mesh):
    trace_id = "1af7651916cd43dd8448eb211c80319c"
    metadata = (("traceparent", SAMPLED.format(trace_id)),)
    stub, request = health_pb2_grpc.HealthStub(channel), health_pb2.HealthCheckRequest()
    stub.Check(request, metadata=metadata, timeout=PATIENCE)
    watch = stub.Watch(request, metadata=metadata, timeout=PATIENCE)
    next(watch)
    watch.cancel()
    after = "2af7651916cd43dd8448eb211c80319c"
    echo = channel.unary_unary("/relay.v1.RelayService/Echo")
    echo(b"", metadata=(("traceparent", SAMPLED.format(after)),), timeout=PATIENCE)
    collector.trace(after, "ingress")
    time.sleep(2)  # the spans of the others would have come by now
    assert [span.name for span in collector.spans if span.trace == trace_id] == []
    assert not any("grpc.health" in str(span) for span in collector.spans)


def test_no_query_is_in_any_span(http, collector):
    asked = [
        ("POST", f"/v1/auth/login?username=ada&password={SECRET}", {}),
        ("GET", f"/oauth2/nothing?client_secret={SECRET}", {}),
        ("GET", f"/nowhere?token={SECRET}", {}),
        # gRPC with a query is routed by its path like any other, and Envoy has a tag of its own for the path of gRPC
        ("POST", f"/meshwork.auth.v1.AuthService/Login?password={SECRET}", {"content-type": "application/grpc"}),
        ("POST", f"/made.Up/Name?password={SECRET}", {"content-type": "application/grpc"}),
    ]
    traces = [f"{at:x}bf7651916cd43dd8448eb211c80319c" for at in range(len(asked))]
    for (method, url, headers), trace_id in zip(asked, traces, strict=True):
        http.request(method, url, headers={"traceparent": SAMPLED.format(trace_id), **headers}, content=b"\0" * 5)
    spans = [span for trace_id in traces for span in collector.trace(trace_id, "ingress")]
    collector.trace(traces[1], "ingress", "auth-sidecar", "auth")
    assert SECRET not in str(collector.requests)
    urls = {span.attributes["http.url"].partition("localhost")[2] for span in spans if span.service == "ingress"}
    assert {"/v1/auth/login", "/oauth2/nothing", "/nowhere", "/made.Up/Name"} <= urls


def test_names_are_those_of_routes_and_nobody_makes_up_others(http, collector):
    asked = ["/v1/auth/users/1", "/nowhere/1", "/nowhere/2", "/" + "x" * 900, "/oauth2/1", "/oauth2/2"]
    traces = [f"{at:x}cf7651916cd43dd8448eb211c80319c" for at in range(len(asked))]
    for path, trace_id in zip(asked, traces, strict=True):
        named = {"x-envoy-decorator-operation": "made-up", "traceparent": SAMPLED.format(trace_id)}
        http.request("POST" if path.endswith("2") else "GET", path, headers=named)
    spans = [span for trace_id in traces for span in collector.trace(trace_id, "ingress")]
    assert {span.name for span in spans if span.service == "ingress"} <= {
        "HTTP",
        "HTTP /oauth2/*",
        "meshwork.auth.v1.AuthService/GetUser",
    }
    assert all(len(span.attributes.get("http.url", "")) < 300 for span in spans)
    (page,) = {span.name for span in collector.trace(traces[4], "ingress", "auth-sidecar") if "sidecar" in span.service}
    assert page == "HTTP /oauth2/*"
