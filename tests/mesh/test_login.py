"""People log in through the ingress; programs find what they need to know of auth there as well."""

import ssl
import stat
import time

import grpc
import httpx
import jwt
import pytest

from mesh_command import EDITOR
from meshwork.auth.v1 import auth_service_pb2 as pb

KEYS = "/.well-known/jwks.json"


def _claims(token):
    return jwt.decode(token, options={"verify_signature": False})


def test_a_session_by_grpc(mesh):
    pair = mesh.log_in()
    with mesh.auth() as auth:
        again = auth.Refresh(pb.RefreshRequest(refresh_token=pair.refresh_token), timeout=10)
        me = auth.GetUser(
            pb.GetUserRequest(id="me"),
            timeout=10,
            metadata=(("authorization", f"Bearer {again.access_token}"),),
        )
    assert (me.username, list(me.roles)) == (EDITOR, ["editor"])
    assert _claims(again.access_token)["sub"] == _claims(pair.access_token)["sub"] == me.id
    assert 0 < pair.access_expires_at.ToSeconds() - time.time() <= 900


def test_a_session_by_rest(mesh):
    mesh.token()
    password = (mesh.state / "kept-secrets" / "users" / EDITOR).read_text()
    with mesh.rest() as rest:
        pair = rest.post("/v1/auth/login", json={"username": EDITOR, "password": password}).json()
        again = rest.post("/v1/auth/refresh", json={"refresh_token": pair["refresh_token"]}).json()
    with mesh.rest(again["access_token"]) as rest:
        assert rest.get("/v1/users/me").json()["username"] == EDITOR
        assert rest.get("/v1/items/nobody").status_code == 404


def test_a_wrong_password_is_unauthenticated(mesh):
    with mesh.auth() as auth, pytest.raises(grpc.RpcError) as refused:
        auth.Login(pb.LoginRequest(username="nobody", password="wrong"), timeout=10)
    assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED
    with mesh.rest() as rest:
        assert rest.post("/v1/auth/login", json={"username": "nobody", "password": "wrong"}).status_code == 401


def test_what_a_program_must_know_needs_no_token(mesh):
    with mesh.rest() as rest:
        keys = rest.get(KEYS)
        assert {key["kid"] for key in keys.json()["keys"]} >= {jwt.get_unverified_header(mesh.token())["kid"]}
        assert "max-age" in keys.headers["cache-control"]
        said = rest.get("/.well-known/oauth-authorization-server").json()
        assert rest.get("/.well-known/openid-configuration").status_code == 404
        assert rest.post("/oauth2/token", data={"grant_type": "nothing"}).status_code in {400, 401}
        assert rest.post("/oauth3/token").status_code == 401  # what nobody serves is for nobody without a token
    assert said["issuer"] == _claims(mesh.token())["iss"] == f"https://localhost:{mesh.port}"  # RFC 8414 §3.3


def test_the_status_says_where_that_is(mesh):
    url = mesh.service("auth")["http"]
    assert mesh.service("items")["http"] is None
    context = ssl.create_default_context(cafile=mesh.state / "ca.pem")
    assert httpx.get(f"{url}{KEYS}", verify=context).status_code == 200


def test_services_get_the_keys_through_their_sidecars_and_nothing_else(mesh):
    outbound = mesh.socket("items").with_name("items-outbound.sock")
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(outbound)), base_url="http://auth") as client:
        assert client.get(KEYS).json()["keys"]
        refused = client.post("/oauth2/token", data={"grant_type": "client_credentials"})
        assert (refused.status_code, refused.text) == (403, "RBAC: access denied")
        assert client.get("/docs").status_code == 404


def test_there_is_a_user_for_each_set_of_roles(mesh):
    asked = [mesh("token", "--roles", roles) for roles in ("auditor,reader", "reader,auditor", "reader", "")]
    assert [(status, err) for status, _, err in asked] == [(0, "")] * 4
    one, same, other, none = [_claims(out.strip()) for _, out, _ in asked]
    assert one["roles"] == same["roles"] == ["auditor", "reader"]
    assert one["sub"] == same["sub"]
    assert (other["roles"], none["roles"]) == (["reader"], [])
    assert len({one["sub"], other["sub"], none["sub"]}) == 3
    assert one["jti"] != same["jti"]
    for path in (mesh.state / "kept-secrets").rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


@pytest.mark.parametrize("role", ["../editor", "Editor", "a b", "x" * 65])
def test_what_is_no_role_is_wrong_usage(mesh, role):
    status, out, err = mesh("token", "--roles", role)
    assert (status, out) == (2, "")
    assert "is no role" in err
