"""The ingress lets nobody through without a good token."""

import ssl
import time

import grpc
import httpx
import jwt
import pytest

from grpc_common.metadata_size import MAX_BAGGAGE, MAX_FROM_OUTSIDE, MAX_TOKEN
from meshwork.items.v1 import items_service_pb2 as pb
from meshwork.items.v1.items_service_pb2_grpc import ItemServiceStub

NOBODY = pb.GetItemRequest(id="nobody")


def _tampered(mesh, **claims):
    """A token with other claims, signed with the issuer's own key."""
    return mesh.forge().changed(mesh.token(), **claims)


def _unsigned(mesh):
    said = jwt.decode(mesh.token(), options={"verify_signature": False})
    return jwt.encode(said, None, algorithm="none")


BAD = {
    "none at all": lambda mesh: None,
    "expired": lambda mesh: _tampered(mesh, exp=int(time.time()) - 90),
    "not valid yet": lambda mesh: _tampered(mesh, nbf=int(time.time()) + 600),
    "of another key": lambda mesh: mesh.forge().foreign(mesh.token()),
    "for another audience": lambda mesh: _tampered(mesh, aud="somebody-else"),
    "of another issuer": lambda mesh: _tampered(mesh, iss="https://elsewhere.test"),
    "without signature": _unsigned,
    "no token": lambda mesh: "garbage",
}


@pytest.fixture(params=BAD)
def bad_token(request, mesh):
    return BAD[request.param](mesh)


def _rest(mesh, path, token, **fields):
    headers = {} if token is None else {"authorization": f"Bearer {token}"}
    context = ssl.create_default_context(cafile=mesh.state / "ca.pem")
    return httpx.request(
        fields.pop("method", "GET"), f"https://localhost:{mesh.port}{path}", headers=headers, verify=context, **fields
    )


def test_grpc_with_a_bad_token_is_unauthenticated(mesh, bad_token):
    with mesh.items(bad_token) as items, pytest.raises(grpc.RpcError) as refused:
        items.GetItem(NOBODY, timeout=10)
    assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED


def test_rest_with_a_bad_token_is_401(mesh, bad_token):
    answer = _rest(mesh, "/v1/items/nobody", bad_token)
    assert answer.status_code == 401
    assert answer.json()["code"] == grpc.StatusCode.UNAUTHENTICATED.value[0]


def test_a_bad_token_is_refused_before_the_body_is_read(mesh, bad_token):
    answer = _rest(mesh, "/v1/items", bad_token, method="POST", content=b"{")
    assert answer.status_code == 401


def test_the_service_itself_refuses_it_where_the_ingress_is_bypassed(mesh, bad_token):
    metadata = () if bad_token is None else (("authorization", f"Bearer {bad_token}"),)
    with grpc.insecure_channel(f"unix:{mesh.socket('items')}") as straight, pytest.raises(grpc.RpcError) as refused:
        ItemServiceStub(straight).GetItem(NOBODY, timeout=10, metadata=metadata)
    assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED


def test_what_is_forged_is_wrong_in_nothing_else(mesh):
    """The same token, signed anew without any change, is taken."""
    with mesh.items(_tampered(mesh)) as items, pytest.raises(grpc.RpcError) as answered:
        items.GetItem(NOBODY, timeout=10)
    assert answered.value.code() == grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("off", [-50, 50])
def test_a_clock_may_be_wrong_by_a_minute(mesh, off):
    token = _tampered(mesh, exp=int(time.time()) - 50) if off < 0 else _tampered(mesh, nbf=int(time.time()) + 50)
    with mesh.items(token) as items, pytest.raises(grpc.RpcError) as answered:
        items.GetItem(NOBODY, timeout=10)
    assert answered.value.code() == grpc.StatusCode.NOT_FOUND


def _longest(mesh):
    """A good token with as many characters as one may have, or few less."""
    pad = lambda size: _tampered(mesh, padding="x" * size)  # noqa: E731
    token = pad((MAX_TOKEN - len(pad(0))) * 3 // 4 - 3)
    assert MAX_TOKEN - 8 <= len(token) <= MAX_TOKEN
    return token


@pytest.mark.parametrize("beside", [(), (("baggage", "x" * MAX_BAGGAGE), ("tracestate", "a=" + "x" * 500))])
def test_the_longest_token_always_passes(mesh, beside):
    """Also with the longest baggage beside it, which every proxy on the way has to pass on."""
    with mesh.items(_longest(mesh)) as items:
        for _ in range(100):
            with pytest.raises(grpc.RpcError) as answered:
                items.GetItem(NOBODY, timeout=10, metadata=beside)
            assert answered.value.code() == grpc.StatusCode.NOT_FOUND, answered.value.details()


def test_the_longest_token_passes_by_rest(mesh):
    token = _longest(mesh)
    assert {_rest(mesh, "/v1/items/nobody", token).status_code for _ in range(20)} == {404}


def test_more_than_the_mesh_takes_is_always_refused_at_its_edge(mesh):
    much = (("much", "x" * MAX_FROM_OUTSIDE),)
    with mesh.items() as items:
        for _ in range(20):
            with pytest.raises(grpc.RpcError) as refused:
                items.GetItem(NOBODY, timeout=10, metadata=much)
            assert refused.value.code() not in {grpc.StatusCode.NOT_FOUND, grpc.StatusCode.OK}


def test_a_good_token_passes(mesh):
    with mesh.items() as items, pytest.raises(grpc.RpcError) as answered:
        items.GetItem(NOBODY, timeout=10)
    assert answered.value.code() == grpc.StatusCode.NOT_FOUND
    assert _rest(mesh, "/v1/items/nobody", mesh.token()).status_code == 404


def test_the_token_command_prints_one_that_passes(mesh):
    status, out, _ = mesh("token", "--roles", "editor,auditor")
    assert status == 0
    assert jwt.decode(out.strip(), options={"verify_signature": False})["roles"] == ["auditor", "editor"]
    assert _rest(mesh, "/v1/items/nobody", out.strip()).status_code == 404


def test_headers_that_pretend_to_be_the_mesh_change_nothing(mesh):
    with mesh.items() as items, pytest.raises(grpc.RpcError) as answered:
        pretended = (
            ("x-forwarded-client-cert", "URI=spiffe://meshwork.local/ns/default/sa/ingress"),
            ("x-envoy-retry-on", "5xx"),
            ("x-envoy-upstream-rq-timeout-ms", "1"),
        )
        items.GetItem.with_call(NOBODY, timeout=10, metadata=pretended)
    assert answered.value.code() == grpc.StatusCode.NOT_FOUND


def test_the_lines_to_paste_ask_for_a_token_of_this_mesh(mesh):
    assert f"$(./mesh --state {mesh.state} token)" in mesh("status")[1]
