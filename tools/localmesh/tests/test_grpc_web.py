"""gRPC-Web: all that gRPC has at the ingress, and every refusal by its own status, where pages look for it."""

import base64
import struct

import grpc
import pytest
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from meshwork.items.v1 import items_service_pb2 as pb

ITEMS = "/meshwork.items.v1.ItemService"
KINDS = [
    "application/grpc-web+proto",
    "application/grpc-web",
    "application/grpc-web-text",
    "application/grpc-web-text+proto",
]


@pytest.fixture(params=KINDS)
def ask(front, request):
    def ask(path, message=b"", *, token=""):
        framed = struct.pack(">BI", 0, len(message)) + message
        sent = base64.b64encode(framed) if "text" in request.param else framed
        headers = {"content-type": request.param, "accept": request.param}
        with front.client(token=token) as client:
            answer = client.post(path, content=sent, headers=headers)
        body = _decoded(answer.content) if "text" in request.param else answer.content
        return answer, dict(_frames(body))

    return ask


def _decoded(text):
    """Base64 of pieces, each with an end of its own."""
    return b"".join(base64.b64decode(text[start : start + 4]) for start in range(0, len(text), 4))


def _frames(body):
    while body:
        flag, length = struct.unpack(">BI", body[:5])
        yield flag, body[5 : 5 + length]
        body = body[5 + length :]


def _status(answer, frames):
    """Where a page finds it: in the headers of an answer without messages, else in the last frame."""
    if "grpc-status" in answer.headers:
        return int(answer.headers["grpc-status"])
    lines = dict(line.split(":", 1) for line in frames[0x80].decode().splitlines())
    return int(lines["grpc-status"])


def test_a_call(front, ask):
    front.answer = lambda request, context: pb.Item(id=request.id)
    answer, frames = ask(f"{ITEMS}/GetItem", pb.GetItemRequest(id="A").SerializeToString())
    assert (answer.status_code, _status(answer, frames)) == (200, 0)
    assert pb.Item.FromString(frames[0]).id == "A"
    assert answer.headers["content-type"].startswith("application/grpc-web")
    assert front.line(answer)["grpc_status"] == "OK"


def test_a_stream_of_answers(front, ask):
    answer, frames = ask(f"{ITEMS}/ListItems")
    assert _status(answer, frames) == 0
    assert 0 in frames


def test_a_stream_is_not_held_up(front):
    front.go_on.clear()
    headers = {"content-type": KINDS[0]}
    with (
        front.client() as client,
        client.stream("POST", f"{ITEMS}/ListItems", content=b"\0" * 5, headers=headers) as answer,
    ):
        pieces = answer.iter_raw()
        assert next(pieces) == b"\0" * 5
        front.go_on.set()
        assert b"grpc-status:0" in b"".join(pieces)


def test_health(ask):
    answer, frames = ask("/grpc.health.v1.Health/Check", token=None)
    assert _status(answer, frames) == 0
    assert health_pb2.HealthCheckResponse.FromString(frames[0]).status == health_pb2.HealthCheckResponse.SERVING
    answer, frames = ask("/grpc.health.v1.Health/Watch", token=None)
    assert _status(answer, frames) == 0


def test_reflection(ask):
    question = reflection_pb2.ServerReflectionRequest(list_services="").SerializeToString()
    answer, frames = ask("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", question)
    assert _status(answer, frames) == 0
    said = reflection_pb2.ServerReflectionResponse.FromString(frames[0])
    assert "meshwork.items.v1.ItemService" in {each.name for each in said.list_services_response.service}


@pytest.mark.parametrize(
    ("path", "token", "code"),
    [
        (f"{ITEMS}/Nothing", "", grpc.StatusCode.UNIMPLEMENTED),
        ("/nowhere.v1.Service/Nothing", "", grpc.StatusCode.UNIMPLEMENTED),
        (f"{ITEMS}/GetItem", "bad", grpc.StatusCode.UNAUTHENTICATED),
        (f"{ITEMS}/GetItem", None, grpc.StatusCode.UNAUTHENTICATED),
    ],
)
def test_what_the_ingress_refuses_has_a_status_of_grpc(front, ask, path, token, code):
    answer, frames = ask(path, token=token)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("application/grpc-web")
    assert _status(answer, frames) == code.value[0]
    assert not answer.content
    assert front.line(answer)["grpc_status"] == code.name
    if code is grpc.StatusCode.UNAUTHENTICATED:
        assert "Jwt" in answer.headers["grpc-message"]


@pytest.mark.parametrize("code", [grpc.StatusCode.NOT_FOUND, grpc.StatusCode.ABORTED])
def test_an_error_of_a_service(front, ask, code):
    front.answer = lambda request, context: context.abort(code, "no")
    answer, frames = ask(f"{ITEMS}/GetItem")
    assert _status(answer, frames) == code.value[0]
    assert front.line(answer)["grpc_status"] == code.name


def test_a_service_that_is_not_there_is_unavailable(front_without_services):
    with front_without_services.client() as client:
        answer = client.post(f"{ITEMS}/GetItem", content=b"\0\0\0\0\0", headers={"content-type": KINDS[0]})
    assert (answer.status_code, answer.headers["grpc-status"]) == (200, "14")
    assert answer.headers["grpc-message"]


def test_who_only_looks_like_grpc_is_rest(front):
    """The transcoder takes a type that only begins so for JSON, and so must all that looks at JSON."""
    with front.client() as client:
        for kind in ("application/grpcfoo", "application/grpc-json", "application/GRPC"):
            answer = client.patch("/v1/items/A", content=b'{"id": "B"}', headers={"content-type": kind})
            assert answer.status_code in (400, 404), (kind, answer.text)
            assert not front.calls
