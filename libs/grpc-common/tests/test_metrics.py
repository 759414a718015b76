"""What Prometheus is given."""

import socket
import urllib.error
import urllib.request
from itertools import pairwise
from time import perf_counter

import grpc
import pytest
from grpc import StatusCode
from opentelemetry.sdk.trace import TracerProvider
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from grpc_common import testing
from grpc_common.call import Call, Method
from grpc_common.call_metrics import BUCKETS, CallMetrics, code_label
from grpc_common.chain import Chain
from grpc_common.interceptors.metrics import MetricsInterceptor
from grpc_common.interceptors.tracing import TracingInterceptor
from grpc_common.listener import ListenError
from grpc_common.metrics_endpoint import metrics_endpoint

OPENMETRICS = "application/openmetrics-text; version=1.0.0"
TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest.fixture
def registry():
    return CollectorRegistry()


async def serve_calls(registry, *, flags="00", calls=1, path="/meshwork.test.Echo/Say", tracer=None):
    async def say(request, context):
        return request

    handler = grpc.method_handlers_generic_handler(
        "meshwork.test.Echo", {"Say": grpc.unary_unary_rpc_method_handler(say)}
    )
    tracer = tracer or TracerProvider(shutdown_on_exit=False).get_tracer("test")
    chain = Chain([TracingInterceptor(tracer), MetricsInterceptor(registry)])
    async with testing.in_process(lambda server: server.add_generic_rpc_handlers((handler,)), [chain]) as channel:
        for number in range(calls):
            metadata = (("traceparent", f"00-{TRACE}-b7ad6b7169203331-{flags}"),)
            await channel.unary_unary(path.format(number))(b"hi", metadata=metadata)


def scrape(port, accept="", path="/metrics"):
    asking = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers={"Accept": accept})
    with urllib.request.urlopen(asking, timeout=5) as page:  # noqa: S310
        return page.headers["Content-Type"], page.read().decode()


def test_codes_have_the_names_that_go_has():
    by_number = sorted(StatusCode, key=lambda status: status.value[0])
    assert [code_label(status) for status in by_number] == [
        *("OK", "Canceled", "Unknown", "InvalidArgument", "DeadlineExceeded", "NotFound", "AlreadyExists"),
        *("PermissionDenied", "ResourceExhausted", "FailedPrecondition", "Aborted", "OutOfRange", "Unimplemented"),
        *("Internal", "Unavailable", "DataLoss", "Unauthenticated"),
    ]


async def test_the_endpoint_speaks_both_formats_with_the_usual_names(registry):
    await serve_calls(registry, calls=3)
    with metrics_endpoint("127.0.0.1", 0, registry) as port:
        kind, text = scrape(port)
        assert kind.startswith("text/plain")
        plain = {sample.name: sample for family in parse_text(text) for sample in family.samples}
        kind, text = scrape(port, OPENMETRICS)
        assert kind.startswith("application/openmetrics-text")
        assert text.endswith("# EOF\n")
        rich = {sample.name: sample for family in parse_openmetrics(text) for sample in family.samples}
    labels = {"grpc_type": "unary", "grpc_service": "meshwork.test.Echo", "grpc_method": "Say"}
    for samples in (plain, rich):
        assert samples["grpc_server_started_total"].labels == labels
        assert samples["grpc_server_handled_total"].labels == labels | {"grpc_code": "OK"}
        assert samples["grpc_server_msg_received_total"].labels == labels
        assert samples["grpc_server_msg_sent_total"].labels == labels
        assert samples["grpc_server_in_flight"].labels == labels
        assert samples["grpc_server_handling_seconds_count"].labels == labels
        assert samples["grpc_server_handling_seconds_bucket"].labels == labels | {"le": "+Inf"}
        assert samples["grpc_server_started_total"].value == 3
        assert samples["grpc_server_handling_seconds_count"].value == 3


@pytest.mark.parametrize("flags", ["00", "01"])
async def test_a_bucket_names_the_trace_of_a_sampled_call(registry, flags):
    await serve_calls(registry, flags=flags)
    with metrics_endpoint("127.0.0.1", 0, registry) as port:
        _, text = scrape(port, OPENMETRICS)
    found = [
        sample.exemplar
        for family in parse_openmetrics(text)
        for sample in family.samples
        if sample.exemplar is not None
    ]
    assert [exemplar.labels["trace_id"] for exemplar in found] == ([TRACE] if flags == "01" else [])


async def test_made_up_names_share_one_series(registry):
    with pytest.raises(grpc.aio.AioRpcError):
        await serve_calls(registry, path="/meshwork.test.Echo/Made{}Up")
    with pytest.raises(grpc.aio.AioRpcError):
        await serve_calls(registry, path="/evil{}/x")
    (family,) = [family for family in registry.collect() if family.name == "grpc_server_handled"]
    unknown = [sample for sample in family.samples if sample.labels["grpc_service"] == "unknown"]
    assert {sample.labels["grpc_method"] for sample in family.samples} == {"unknown"}
    assert {sample.labels["grpc_code"]: sample.value for sample in unknown} == {"OK": 0, "Unimplemented": 2}


def test_servers_of_one_process_share_a_registry(registry):
    MetricsInterceptor(registry)
    MetricsInterceptor(registry)
    assert CallMetrics.of(registry) is CallMetrics.of(registry)
    with pytest.raises(ValueError, match="already measured"):
        MetricsInterceptor(registry, buckets=(1.0,))


def test_each_time_is_counted_in_its_bucket(registry):
    method = Method("/a.B/C", "a.B", "C", request_streaming=False, response_streaming=False)
    metrics = CallMetrics.of(registry).method(method)
    times = [0.0, *((low + high) / 2 for low, high in pairwise(BUCKETS)), 100.0]
    for seconds in times:
        call = Call(method, None)
        call.started = perf_counter() - seconds
        metrics.start(call)
        metrics.end(call, StatusCode.OK)
    assert [bucket[1] for bucket in metrics.buckets()] == list(range(1, len(BUCKETS) + 2))
    assert metrics.seconds == pytest.approx(sum(times), abs=0.1)


async def test_the_endpoint_gives_away_nothing_else(registry):
    with metrics_endpoint("127.0.0.1", 0, registry) as port:
        for path in ("/", "/favicon.ico", "/metrics/x"):
            with pytest.raises(urllib.error.HTTPError, match="404"):
                scrape(port, path=path)


def test_a_taken_port_is_said_in_a_sentence(registry):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with (
            pytest.raises(ListenError, match=f"metrics port {port} on 127.0.0.1 is taken"),
            metrics_endpoint("127.0.0.1", port, registry),
        ):
            pass


def test_no_port_means_no_endpoint(registry):
    with metrics_endpoint("127.0.0.1", None, registry) as port:
        assert port is None


def test_the_port_is_free_again_afterwards(registry):
    with metrics_endpoint("127.0.0.1", 0, registry) as port:
        pass
    with metrics_endpoint("127.0.0.1", port, registry) as again:
        assert again == port
