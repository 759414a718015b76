"""Headers that gRPC's core cannot read: its own words, and what ends in `-bin`. Nobody else is to suffer from them."""

import string

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

GRPC = "application/grpc"
SEALED = [
    ("grpc-timeout", "1"),
    ("grpc-timeout", "1.5S"),
    ("grpc-timeout", "-1S"),
    ("grpc-timeout", ""),
    ("grpc-timeout", "123456789S"),
    ("grpc-previous-rpc-attempts", "x"),
    ("grpc-previous-rpc-attempts", "99999999999"),
    ("a-bin", "!"),
    ("a-bin", "A"),
    ("a-bin", "AB"),
    ("a-bin", "AAB"),
    ("a-bin", "AA==AA=="),
    ("a-bin", "AA-_"),
    ("grpc-trace-bin", "!"),
]
"""What nothing can be made of."""
UNHEARD = [
    ("grpc-status", "x"),
    ("grpc-retry-pushback-ms", "x"),
    ("grpc-internal-encoding-request", "x"),
    ("grpclb_client_stats", "x"),
    ("lb-cost-bin", "AAAA"),
    ("lb-cost-bin", "!"),
    ("grpc-encoding", "identity"),
]
"""What servers say, or gRPC to itself."""
NAMES = [*dict(SEALED), *dict(UNHEARD), "grpc-accept-encoding", "grpc-message", "te", "lb-token"]


@pytest.fixture
def client(front):
    with front.client() as client:
        yield client


def _by_grpc(client, *headers):
    sent = [("content-type", GRPC), ("te", "trailers"), *headers]
    return client.post("/meshwork.items.v1.ItemService/GetItem", content=b"\0" * 5, headers=sent)


@pytest.mark.parametrize("header", SEALED, ids=str)
def test_a_caller_is_told_which_header_cannot_be_read(front, client, header):
    for answer in (
        client.get("/v1/items/A", headers=[header]),
        client.post("/v1/auth/login", json={}, headers=[header]),
        client.post("/v1/items", content=b"x" * 200_000, headers=[header]),
    ):
        assert answer.status_code == 400, answer.text
        assert answer.json()["code"] == 3
        assert header[0] in answer.json()["message"]
    said = _by_grpc(client, header)
    assert (said.status_code, said.headers["grpc-status"]) == (200, "13")
    assert header[0] in said.headers["grpc-message"]
    assert not front.calls


@pytest.mark.parametrize("header", UNHEARD, ids=str)
def test_what_no_caller_says_is_not_heard(front, client, header):
    assert client.get("/v1/items/A", headers=[header]).status_code == 200
    assert _by_grpc(client, header).headers.get("grpc-status", "0") == "0"
    assert len(front.calls) == 2


@pytest.mark.parametrize("encoding", ["br", "zstd", "GZIP", "", "gzip, gzip"])
def test_an_encoding_that_nobody_has(front, client, encoding):
    said = _by_grpc(client, ("grpc-encoding", encoding))
    assert (said.status_code, said.headers["grpc-status"]) == (200, "12")
    assert said.headers["grpc-accept-encoding"] == "identity,deflate,gzip"
    assert not front.calls
    assert client.get("/v1/items/A", headers=[("grpc-encoding", encoding)]).status_code == 200


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(NAMES), value=st.text(string.ascii_letters + string.digits + "+/=-_ ,.%", max_size=12))
@example(name="a-bin", value="AAAA=")
@example(name="a-bin", value="AA=")
@example(name="grpc-timeout", value="00000001S")
def test_no_header_is_a_failure_of_ours(front, client, name, value):
    front.forget()
    assert client.get("/v1/items/A", headers=[(name, value.strip())]).status_code in (200, 400, 504)


def test_a_call_without_te_is_a_call(front, client):
    """gRPC's core resets it, which to a proxy is a service that does not answer, and is cast out."""
    headers = {"content-type": GRPC}
    said = client.post("/meshwork.items.v1.ItemService/GetItem", content=b"\0" * 5, headers=headers)
    assert said.headers.get("grpc-status", "0") == "0"
    assert len(front.calls) == 1


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "HEAD", "OPTIONS"])
def test_grpc_is_asked_by_post(front, client, method):
    answer = client.request(method, "/meshwork.items.v1.ItemService/GetItem", headers={"content-type": GRPC})
    assert (answer.status_code, answer.headers["grpc-status"]) == (200, "12")
    assert not front.calls


@pytest.mark.parametrize("host", ["", "a@localhost"])
def test_a_host_is_a_host(front, client, host):
    rest = client.get("/v1/items/A", headers={"host": host})
    assert (rest.status_code, rest.json()["code"]) == (400, 3)
    assert "host" in rest.json()["message"]
    assert not front.calls
    for good in ("localhost", "LOCALHOST:8443", "[::1]:1", "a_b", "1.2.3.4"):
        assert client.get("/v1/items/A", headers={"host": good}).status_code == 200


@pytest.mark.parametrize(
    "kind", ["application/json", "application/proto", "application/grpcx", "application/grpc;x", ""]
)
@pytest.mark.parametrize("method", ["POST", "GET"])
def test_the_path_of_an_rpc_takes_grpc_alone(front, client, method, kind):
    answer = client.request(method, "/meshwork.items.v1.ItemService/GetItem", headers={"content-type": kind})
    if kind.startswith(GRPC):
        assert answer.headers["grpc-status"] == "12"
    else:
        assert (answer.status_code, answer.json()["code"]) == (404, 5)
    assert not front.calls


def test_a_header_that_core_cannot_read_spoils_no_call_of_others(unguarded):
    """All calls share a connection, through a sidecar checks of health too, and so they would the table of HPACK."""
    with unguarded.client() as client:
        for _ in range(5):
            assert client.get("/v1/items/A", headers=[("grpc-timeout", "1")]).status_code == 500
            answers = [client.get("/v1/items/A", headers=[("grpc-timeout", f"{s}S")]) for s in (5, 6, 7)]
            assert [answer.status_code for answer in answers] == [200, 200, 200]
