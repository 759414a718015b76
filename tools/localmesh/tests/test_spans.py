"""Spans are kept in bounded memory, and shown as the tree that they are."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1 import trace_pb2
from rich.console import Console

from localmesh.spans.span import Span
from localmesh.spans.store import Spans
from localmesh.spans.view import overview, waterfall


def _span(trace, number=0, parent="", **fields):
    values = {
        "service": "items",
        "name": "GetItem",
        "kind": "server",
        "began": 100.0 + number,
        "lasted": 1.0,
        "failed": False,
    }
    values |= {"failed": False, "status": "OK", "details": {}} | fields
    return Span(trace=trace, id=f"{number:016x}", parent=parent, **values)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 30)), st.integers(1, 8), st.integers(1, 20), st.integers(1, 6))
def test_memory_is_bounded_and_what_is_kept_is_what_came_last(numbers, traces, spans, of_each):
    store = Spans(traces, spans, of_each)
    for place, number in enumerate(numbers):
        store.add([_span(f"{number:032x}", place)])
    kept = store.latest(1000)
    assert len(kept) <= traces
    assert len(store) == sum(len(trace.spans) for trace in kept) <= spans
    assert all(len(trace.spans) <= of_each for trace in kept)
    came = Counter(f"{number:032x}" for number in numbers)
    assert all(len(trace.spans) + trace.left_out <= came[trace.id] for trace in kept)


def test_a_trace_is_found_by_the_start_of_its_id():
    store = Spans()
    store.add([_span("abcd" + "0" * 28), _span("abce" + "0" * 28)])
    assert [trace.id for trace in store.find("ABCD")] == ["abcd" + "0" * 28]
    assert len(store.find("abc")) == 0
    assert store.find("ffff") == []


def test_the_newest_come_first():
    store = Spans()
    store.add([_span("a"), _span("b"), _span("c")])
    assert [trace.id for trace in store.latest(2)] == ["c", "b"]
    assert store.latest(0) == store.latest(-1) == []


def _shown(table):
    console = Console(width=200, no_color=True)
    with console.capture() as captured:
        console.print(table)
    return captured.get()


def _trace(*spans):
    store = Spans()
    store.add(spans)
    return store.latest(1)[0].as_json()


def test_each_span_stands_below_its_parent():
    details = {"http.url": "https://localhost/v1/stock/7"}
    trace = _trace(
        _span("t", 2, parent=f"{1:016x}", service="items", name="shop.Stock/Get", kind="client", details=details),
        _span("t", 1, service="ingress", name="shop.Stock/Get", details=details),
        _span("t", 3, parent="elsewhere", service="orphan"),
    )
    lines = [line for line in _shown(waterfall(trace)).splitlines() if "█" in line]
    assert [line.split("  ")[0] or line.strip().split()[0] for line in lines] == ["ingress", "items", "orphan"]
    assert " Stock/Get " in lines[0]
    assert "http.url=https://localhost/v1/stock/7" in lines[0]
    assert lines[1].startswith("  items")
    assert " → Stock/Get " in lines[1]
    assert "http.url" not in lines[1]


def test_spans_that_are_each_others_parents_do_not_hang_the_view():
    trace = _trace(_span("t", 1, parent=f"{2:016x}"), _span("t", 2, parent=f"{1:016x}"))
    assert "trace t" in _shown(waterfall(trace))


def test_the_overview_says_what_failed():
    trace = _trace(_span("t" * 32, 1, service="ingress"), _span("t" * 32, 2, failed=True, status="14"))
    assert "ingress → items" in _shown(overview([trace]))


def test_a_trace_has_the_status_of_the_call_and_not_that_of_its_stream():
    shown = _shown(
        overview(
            [
                _trace(
                    _span("a", 0, name="ingress", status="HTTP 200"),
                    _span("a", 1, name="meshwork.items.v1.ItemService/WatchItems", status="OUT_OF_RANGE", failed=True),
                )
            ]
        )
    )
    assert "OUT_OF_RANGE" in shown
    assert " ItemService/WatchItems " in shown


def test_statuses_have_names():
    def status(attributes):
        values = [KeyValue(key=key, value=AnyValue(string_value=value)) for key, value in attributes.items()]
        return Span.of("items", trace_pb2.Span(attributes=values)).status

    assert status({"rpc.status_code": "NOT_FOUND"}) == "NOT_FOUND"
    assert status({"grpc.status_code": "5", "http.status_code": "200"}) == "NOT_FOUND"
    assert status({"http.response.status_code": "404"}) == "HTTP 404"
    assert status({"grpc.status_code": "0"}) == "OK"
    assert status({"http.status_code": "503"}) == "HTTP 503"
    assert status({}) == ""


@pytest.mark.parametrize(
    ("names", "shown"),
    [
        (["ingress", "meshwork.items.v1.ItemService/GetItem"], "ItemService/GetItem"),
        (["HTTP", "HTTP /oauth2/*", "POST /oauth2/token"], "POST /oauth2/token"),
        (["HTTP"], "HTTP"),
    ],
)
def test_a_trace_is_called_by_its_most_telling_name(names, shown):
    trace = _trace(*(_span("a", at, name=name) for at, name in enumerate(names)))
    assert f" {shown} " in _shown(overview([trace]))


@pytest.mark.parametrize(("kind", "name"), [(2, "server"), (3, "client"), (1, "")])
def test_a_span_says_on_which_side_of_a_call_it_stands(kind, name):
    assert Span.of("items", trace_pb2.Span(kind=kind)).kind == name
