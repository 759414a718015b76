"""What web pages need: gRPC-Web, and an answer to whether they may call at all (CORS)."""

import ssl
import struct

import httpx
import pytest
from google.protobuf.wrappers_pb2 import StringValue

PAGE, STRANGER = "http://localhost:3000", "http://elsewhere.test"
ECHO = "/relay.v1.RelayService/Echo"


@pytest.fixture
def web(relay_mesh):
    context = ssl.create_default_context(cafile=relay_mesh.state / "ca.pem")
    headers = {"authorization": f"Bearer {relay_mesh.token()}"}
    with httpx.Client(base_url=f"https://localhost:{relay_mesh.port}", verify=context, headers=headers) as client:
        yield client


def _framed(text):
    message = StringValue(value=text).SerializeToString()
    return struct.pack(">BI", 0, len(message)) + message


def _frames(body):
    while body:
        flag, length = struct.unpack(">BI", body[:5])
        yield flag, body[5 : 5 + length]
        body = body[5 + length :]


def test_a_page_calls_by_grpc_web(web):
    headers = {"content-type": "application/grpc-web+proto", "x-grpc-web": "1", "origin": PAGE}
    answer = web.post(ECHO, content=_framed("hello"), headers=headers)
    assert answer.headers["content-type"] == "application/grpc-web+proto"
    assert answer.headers["access-control-allow-origin"] == PAGE
    assert answer.content, answer.headers
    (_, message), (flag, trailers) = _frames(answer.content)
    assert StringValue.FromString(message).value.startswith("hello from ")
    assert flag == 0x80
    assert b"grpc-status:0" in trailers


def test_an_error_reaches_the_page_as_well(web):
    headers = {"content-type": "application/grpc-web+proto", "x-grpc-web": "1", "origin": PAGE}
    answer = web.post("/relay.v1.RelayService/Guarded", content=_framed(""), headers=headers)
    said = b"".join(message for _, message in _frames(answer.content)) + str(answer.headers).encode()
    assert b"grpc-status" in said
    assert "grpc-status" in answer.headers["access-control-expose-headers"]


def _preflight(web, origin):
    headers = {"origin": origin, "access-control-request-method": "POST"}
    return web.options(ECHO, headers=headers)


def test_a_page_of_ours_may_call(web):
    allowed = _preflight(web, PAGE)
    assert allowed.status_code == 200
    assert allowed.headers["access-control-allow-origin"] == PAGE
    assert "authorization" in allowed.headers["access-control-allow-headers"]
    assert "access-control-allow-credentials" not in allowed.headers


def test_a_page_from_elsewhere_may_not(web):
    assert "access-control-allow-origin" not in _preflight(web, STRANGER).headers
    assert "access-control-allow-origin" not in web.post(ECHO, headers={"origin": STRANGER}).headers


def test_a_refusal_can_be_read_by_the_page(web):
    refused = web.post("/relay.v1.RelayService/Guarded", headers={"authorization": "", "origin": PAGE})
    assert refused.status_code == 401
    assert refused.headers["access-control-allow-origin"] == PAGE


def test_what_envoys_tell_each_other_stays_inside(web):
    headers = {"content-type": "application/grpc-web+proto", "x-grpc-web": "1"}
    answer = web.post(ECHO, content=_framed("hello"), headers=headers)
    assert not [name for name in answer.headers if name.startswith("x-envoy")]
