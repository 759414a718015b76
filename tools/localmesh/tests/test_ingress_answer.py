"""What every answer of the ingress has, whoever gives it: a shape, names to find it by, what its status asks for."""

import socket
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import grpc
import pytest
from google.protobuf import any_pb2, duration_pb2, json_format
from google.rpc import error_details_pb2, status_pb2

from meshwork.auth.v1.auth_service_pb2 import TokenPair

PAGE = "http://localhost:3000"


def _fail(code, *, wait=None, message="no"):
    def fail(request, context):
        status = status_pb2.Status(code=code.value[0], message=message)
        if wait is not None:
            delay = duration_pb2.Duration()
            delay.FromNanoseconds(int(wait * 1e9))
            packed = any_pb2.Any()
            packed.Pack(error_details_pb2.RetryInfo(retry_delay=delay))
            status.details.append(packed)
        context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
        context.abort(code, message)

    return fail


@pytest.fixture
def client(front):
    with front.client() as client:
        yield client


def _errors(front):
    """Answers that no service gives, by the status that they are to have."""
    with front.client() as good, front.client(token=None) as nobody, front.client(token="bad") as bad:
        yield 401, 16, nobody.get("/v1/items/A")
        yield 401, 16, bad.get("/v1/items?filter=SECRET")
        yield 400, 3, good.get("/v1/items/A?verbose=1")
        yield 400, 3, good.post("/v1/items", content=b"{")
        yield 400, 3, good.patch("/v1/items/A", json={"quantiy": 1})
        yield 404, 5, good.get("/v2/nothing")
        yield 404, 5, good.post("/v1/items/A", json={})
        yield 404, 5, good.get("/v1/items/A/")
        yield 412, 10, good.delete("/v1/items/A", headers={"if-match": 'W/"1"'})
        yield 413, 8, good.post("/v1/items", content=b'{"name": "' + b"x" * 5_000_000 + b'"}')
        yield 413, 8, bad.post("/v1/items", content=b"x" * 1_100_000)
        yield 415, 3, good.post("/v1/items", content=b"x", headers={"content-encoding": "gzip"})


def test_all_that_the_ingress_refuses_has_one_shape(front):
    for status, code, answer in _errors(front):
        assert answer.status_code == status, answer.text
        assert answer.headers["content-type"] == "application/json"
        said = answer.json()
        assert set(said) == {"code", "message", "details"}
        assert said["code"] == code
        assert said["message"], answer.url
        assert "SECRET" not in f"{answer.text}{answer.headers}"
        info = said["details"][0]
        assert info["@type"] == "type.googleapis.com/google.rpc.ErrorInfo"
        assert info["reason"] == next(each.name for each in grpc.StatusCode if each.value[0] == code)
        assert info["metadata"] == {
            "trace_id": answer.headers["x-trace-id"],
            "correlation_id": answer.headers["x-correlation-id"],
        }
        assert len(info["metadata"]["trace_id"]) == 32


def test_a_service_that_is_not_there_is_503_and_says_when_to_ask_again(front, front_without_services):
    with front_without_services.client() as client:
        answer = client.get("/v1/items/A")
    assert (answer.status_code, answer.json()["code"]) == (503, 14)
    assert answer.json()["message"]
    assert int(answer.headers["retry-after"]) >= 1
    assert answer.json()["details"][0]["metadata"]["trace_id"] == answer.headers["x-trace-id"]


def test_a_body_of_the_largest_size_is_taken(front, client):
    body = b'{"name": "' + b"x" * ((1 << 20) - 12) + b'"}'
    assert client.post("/v1/items", content=body).status_code == 200
    assert client.post("/v1/items", content=body + b" ").status_code == 413


@pytest.mark.parametrize("path", ["/v1/items/A", "/v1/nothing", "/.well-known/jwks.json"])
def test_every_answer_has_its_names(front, client, path):
    named = client.get(path, headers={"x-correlation-id": "of-the-caller"})
    assert named.headers.get_list("x-correlation-id") == ["of-the-caller"]
    unnamed = client.get(path)
    assert unnamed.headers["x-correlation-id"] == unnamed.headers["x-request-id"]
    assert len(unnamed.headers["x-trace-id"]) == 32


@pytest.mark.parametrize("bad", ["x" * 129, "a b", 'a"b', "a\tb", "é".encode()])
def test_a_name_that_could_forge_a_log_is_not_taken(front, client, bad):
    answer = client.get("/v1/items/A", headers={"x-correlation-id": bad})
    assert answer.headers["x-correlation-id"] == answer.headers["x-request-id"]
    assert front.calls[0].header("x-correlation-id") == [answer.headers["x-request-id"]]


def test_an_error_of_a_service_has_its_names(front, client):
    front.answer = _fail(grpc.StatusCode.NOT_FOUND)
    answer = client.get("/v1/items/A", headers={"x-correlation-id": "of-the-caller"})
    assert answer.status_code == 404
    assert answer.headers.get_list("x-correlation-id") == ["of-the-caller"]
    assert front.calls[0].header("x-correlation-id") == ["of-the-caller"]


@pytest.mark.parametrize(
    ("code", "status"), [(grpc.StatusCode.RESOURCE_EXHAUSTED, 429), (grpc.StatusCode.UNAVAILABLE, 503)]
)
@pytest.mark.parametrize(("wait", "seconds"), [(None, "1"), (0, "1"), (0.2, "1"), (1, "1"), (1.5, "2"), (3600, "3600")])
def test_who_is_to_come_back_is_told_when(front, client, code, status, wait, seconds):
    front.answer = _fail(code, wait=wait)
    answer = client.get("/v1/items/A")
    assert (answer.status_code, answer.json()["code"]) == (status, code.value[0])
    assert answer.headers["retry-after"] == seconds


def test_a_time_is_not_taken_from_what_somebody_wrote(front, client):
    front.answer = _fail(grpc.StatusCode.RESOURCE_EXHAUSTED, message='"retry_delay":"99s"')
    assert client.get("/v1/items/A").headers["retry-after"] == "1"


def test_a_401_says_what_is_wanted(front, client):
    with front.client(token=None) as nobody, front.client(token="bad") as bad:
        assert nobody.get("/v1/items?filter=x").headers["www-authenticate"] == 'Bearer realm="meshwork"'
        wanted = bad.get("/v1/items/A").headers["www-authenticate"]
        assert wanted == 'Bearer realm="meshwork", error="invalid_token"'
        front.answer = _fail(grpc.StatusCode.UNAUTHENTICATED)
        refused = nobody.post("/v1/auth/login", json={"username": "a", "password": "b"})
    assert refused.status_code == 401
    assert refused.headers["www-authenticate"] == 'Bearer realm="meshwork"'


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "bEaReR", "Bearer "])
def test_a_scheme_is_written_in_any_case(front, scheme):
    with front.client(token=None) as client:
        token = front.token()
        assert client.get("/v1/items/A", headers={"authorization": f"{scheme} {token}"}).status_code == 200
    assert front.calls[0].header("authorization") == [f"Bearer {token}"]


@pytest.mark.parametrize("scheme", ["Basic", "Token", "Bearerx", ""])
def test_another_scheme_is_none_of_a_token(front, scheme):
    with front.client(token=None) as client:
        headers = {"authorization": f"{scheme} {front.token()}".strip()}
        assert client.get("/v1/items/A", headers=headers).status_code == 401
    assert not front.calls


def test_a_token_in_a_url_opens_nothing(front, make_items):
    with front.client(token=None) as client:
        for path in ("/v1/items/A", "/v1/items"):
            assert client.get(f"{path}?access_token={front.token()}").status_code in (400, 401)
        grpc_call = client.post(
            f"/meshwork.items.v1.ItemService/GetItem?access_token={front.token()}",
            content=b"\0\0\0\0\0",
            headers={"content-type": "application/grpc"},
        )
    assert grpc_call.headers["grpc-status"] == "16"
    assert not front.calls


def test_two_tokens_are_none(front):
    with front.client(token=None) as client:
        two = [("authorization", f"Bearer {front.token(sub=name)}") for name in ("a", "b")]
        assert client.get("/v1/items/A", headers=two).status_code == 401
    assert not front.calls


SECRETS = [
    ("/v1/auth/login", True),
    ("/v1/auth/refresh", True),
    ("/v1/clients", True),
    ("/v1/auth/logout", False),
    ("/v1/items", False),
]


@pytest.mark.parametrize(("path", "secret"), SECRETS)
def test_an_answer_with_a_secret_is_not_kept_on_the_way(front, client, path, secret):
    front.answer = lambda request, context: TokenPair(access_token="x") if path.endswith(("login", "refresh")) else None
    answer = client.post(path, json={})
    assert answer.status_code == 200, answer.text
    assert answer.headers.get("cache-control") == ("no-store" if secret else None)


def test_the_log_says_what_the_caller_did(front, client):
    answer = client.patch("/v1/items/SECRET", json={"quantity": 1})
    line = front.line(answer)
    assert (line["method"], line["path"], line["status"]) == ("PATCH", "/v1/items/{id}", 200)
    assert (line["grpc_status"], line["client"]) == ("OK", "127.0.0.1")
    assert "SECRET" not in str(line)


def test_the_log_has_the_template_of_the_way_that_was_taken(front, client):
    assert front.line(client.get("/v1/books/b"))["path"] == "/v1/books/{book.name}"
    assert front.line(client.get("/v1/shelves/s/books/b"))["path"] == "/v1/shelves/{shelf_id}/books/{book.name}"
    assert front.line(client.patch("/v1/shelves/s/books/b", json={}))["path"] == "/v1/{book.name=shelves/*/books/*}"
    assert front.line(client.get("/v1/nothing?password=SECRET"))["path"] == "/v1/nothing"
    assert front.line(client.get("/.well-known/jwks.json"))["path"] == "/.well-known/jwks.json"


@pytest.mark.parametrize("code", [each for each in grpc.StatusCode if each is not grpc.StatusCode.OK])
def test_the_log_has_the_status_that_was_sent(front, client, code):
    front.answer = _fail(code)
    answer = client.get("/v1/items/A")
    assert answer.json()["code"] == code.value[0]
    assert front.line(answer)["grpc_status"] == code.name


def test_the_log_has_the_status_of_what_the_ingress_refuses(front):
    for _, code, answer in _errors(front):
        name = next(each.name for each in grpc.StatusCode if each.value[0] == code)
        assert front.line(answer)["grpc_status"] == name, answer.url


def test_the_log_of_a_page_has_no_status_of_grpc(front, client):
    assert front.line(client.get("/.well-known/jwks.json"))["grpc_status"] in (None, "")


def test_a_query_is_in_no_log_and_no_span(front):
    with front.client() as good, front.client(token="bad") as bad:
        for client in (good, bad):
            for answer in (
                client.post("/v1/auth/login?username=a&password=SECRET", json={}),
                client.get("/v1/items?filter=SECRET"),
                client.get("/v1/nothing?password=SECRET"),
                client.get("/.well-known/jwks.json?code=SECRET"),
            ):
                assert "SECRET" not in str(front.line(answer))
                assert b"SECRET" not in front.span(answer)
    assert "SECRET" not in front.log.read_text()
    assert all("SECRET" not in str(value) for seen in front.calls for value in seen.header("x-envoy-original-path"))


def test_a_page_reads_what_it_needs(front):
    asked = {"origin": PAGE, "access-control-request-method": "POST", "access-control-request-headers": "if-match"}
    with front.client(token=None) as client:
        preflight = client.options("/v1/items/A", headers=asked)
        allowed = {each.strip() for each in preflight.headers["access-control-allow-headers"].split(",")}
        refused = client.get("/v1/items/A", headers={"origin": PAGE})
    assert allowed >= {
        "traceparent",
        "tracestate",
        "baggage",
        "if-match",
        "authorization",
        "grpc-timeout",
        "x-grpc-web",
    }
    exposed = {each.strip() for each in refused.headers["access-control-expose-headers"].split(",")}
    assert exposed >= {
        "retry-after",
        "www-authenticate",
        "x-correlation-id",
        "x-trace-id",
        "grpc-status",
        "next-page-token",
    }


@pytest.fixture
def link(front):
    """A connection over which nothing was asked yet."""
    trust = front.trust()
    with (
        socket.create_connection(("127.0.0.1", front.port), timeout=30) as plain,
        trust.wrap_socket(plain, server_hostname="localhost") as link,
    ):
        yield link


def _all(link):
    said = b""
    while more := link.recv(65536):
        said += more
    return said.decode()


@pytest.mark.parametrize("asked", ["POST /v1/items", "PATCH /v1/items/A", "DELETE /v1/items/A", "POST /v1/nothing"])
def test_a_small_body_is_read_before_it_is_answered(link, asked):
    """Else some clients, curl 7.88 among them, take the answer for a failure of the stream."""
    link.sendall(f"{asked} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{{".encode())
    link.settimeout(1.0)
    with pytest.raises(TimeoutError):
        link.recv(1)
    link.settimeout(30.0)
    link.sendall(b"}")
    assert _all(link).split(" ")[1] in ("401", "404")


def test_curl_of_debian_12_understands_a_refusal(front, curl):
    for body in ("{}", "x" * 200_000):
        said = curl("-d", "@-", f"https://localhost:{front.port}/v1/items", text=body)
        assert '"code":16' in said, said
    for length in (1_200_000, 5_000_000, 20_000_000):
        said = curl("-d", "@-", f"https://localhost:{front.port}/v1/items", text="x" * length)
        assert '"code":8' in said, said


def test_a_page_gets_no_part_of_a_body(front, client):
    answer = client.post("/.well-known/anything", content=b"x" * 1_100_000)
    assert (answer.status_code, answer.json()["code"]) == (413, 8)
    assert client.post("/.well-known/anything", content=b"x" * 1_000_000).text == "1000000"


def test_a_body_that_does_not_end_is_not_taken_for_ever(link):
    link.sendall(b"POST /v1/items HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
    piece = b"100000\r\n" + b"x" * (1 << 20) + b"\r\n"
    with pytest.raises(OSError):
        for _ in range(80):
            link.sendall(piece)


def test_http_1_0_is_told_in_the_same_shape(link):
    link.sendall(b"GET /v1/items/A HTTP/1.0\r\n\r\n")
    said = _all(link)
    assert said.split(" ")[1] == "426"
    assert '"code":9' in said


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ("GET /v1/items/A#b HTTP/1.1", "400"),
        ("GET /v1/items/%00 HTTP/1.1", "400"),
        ("GET v1 HTTP/1.1", "400"),
        ("GET /v1/items/A HTTP/1.1\r\nconnection: upgrade\r\nupgrade: websocket", "403"),
        ("GET /v1/items/A HTTP/1.1\r\ncontent-length: x", "400"),
        ("GET /v1/items/A HTTP/1.1\r\nx: " + "x" * 100_000, "431"),
    ],
    ids=["fragment", "nul", "no path", "upgrade", "no length", "long header"],
)
def test_what_is_refused_before_it_has_names_is_told_in_the_same_shape(link, asked, status):
    """Without the names, for nobody has given them yet: a client reads the error into google.rpc.ErrorInfo."""
    link.sendall(f"{asked}\r\nhost: x\r\nconnection: close\r\n\r\n".encode())
    head, _, body = _all(link).partition("\r\n\r\n")
    assert head.split(" ")[1] == status
    said = json_format.Parse(body, status_pb2.Status(), ignore_unknown_fields=False)
    assert said.code == {"400": 3, "403": 7, "431": 8}[status]
    assert said.message


def test_a_request_without_a_host_is_told_so(link):
    link.sendall(b"GET /v1/items/A HTTP/1.1\r\nconnection: close\r\n\r\n")
    assert "the header host is missing" in _all(link)


def test_a_tunnel_is_refused_at_once(link):
    """It has no body that could end."""
    link.sendall(b"CONNECT localhost:443 HTTP/1.1\r\nhost: localhost:443\r\nconnection: close\r\n\r\n")
    said = _all(link)
    assert said.split(" ")[1] == "405"
    assert '"code":12' in said


def test_grpc_keeps_its_ways(front, make_items):
    with make_items(front) as call:
        call("GetItem")
        with pytest.raises(grpc.RpcError) as refused:
            call("Nothing")
    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
    with make_items(front, token="bad") as call, pytest.raises(grpc.RpcError) as refused:
        call("GetItem")
    assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert "Jwt" in refused.value.details()


def test_what_only_the_transcoder_says_is_not_taken_from_callers(front, make_items):
    said = (("x-envoy-original-path", "/v1/items/B"), ("x-envoy-original-method", "DELETE"), ("x-reply-status", "0"))
    with make_items(front) as call:
        call("GetItem", metadata=said)
        with pytest.raises(grpc.RpcError) as refused:
            call("Nothing", metadata=said)
    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert not [key for key, _ in front.calls[0].metadata if key.startswith("x-envoy-original")]


def test_a_stream_of_grpc_is_not_held_up(front, make_channel):
    sends = Event()

    def requests():
        yield b""
        sends.wait(30)

    with make_channel(front) as channel:
        metadata = (("authorization", f"Bearer {front.token()}"),)
        sync = channel.stream_stream("/meshwork.items.v1.ItemService/SyncItems")
        answers = sync(requests(), metadata=metadata, timeout=30)
        assert next(answers) == b""
        sends.set()
        assert list(answers) == []
        unknown = channel.stream_stream("/meshwork.items.v1.ItemService/Nothing")
        sends.clear()
        with pytest.raises(grpc.RpcError) as refused:
            list(unknown(requests(), metadata=metadata, timeout=20))
        sends.set()
    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_a_route_whose_time_is_up_says_so(front, make_items):
    late = Event()
    front.answer = lambda request, context: late.wait(25) and None

    def by_rest():
        with front.client() as client:
            return client.get("/v1/items/A")

    def by_web():
        headers = {"content-type": "application/grpc-web+proto"}
        with front.client() as client:
            return client.post("/meshwork.items.v1.ItemService/GetItem", content=b"\0" * 5, headers=headers)

    def by_grpc():
        with make_items(front) as call, pytest.raises(grpc.RpcError) as refused:
            call("GetItem")
        return refused.value.code()

    with ThreadPoolExecutor(3) as pool:
        rest, web, code = [pool.submit(each) for each in (by_rest, by_web, by_grpc)]
        assert (rest.result().status_code, rest.result().json()["code"]) == (504, 4)
        assert (web.result().status_code, web.result().headers["grpc-status"]) == (200, "4")
        assert code.result() is grpc.StatusCode.DEADLINE_EXCEEDED
    late.set()


def test_who_calls_too_often_is_told_when_to_come_back(slow_front, make_items):
    with slow_front.client() as client:
        answers = [client.get("/v1/items/A") for _ in range(60)]
    refused = next(answer for answer in answers if answer.status_code != 200)
    assert (refused.status_code, refused.json()["code"]) == (429, 8)
    assert refused.headers["retry-after"] == "1"
    assert refused.json()["details"][0]["metadata"]["trace_id"] == refused.headers["x-trace-id"]
    with make_items(slow_front) as call, pytest.raises(grpc.RpcError) as exhausted:
        for _ in range(60):
            call("GetItem")
    assert exhausted.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
