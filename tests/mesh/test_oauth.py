"""OAuth through the ingress: stock clients find their way by the issuer alone, and HTTP is spoken as HTTP has it."""

import contextlib
import json
import ssl
import time
import uuid
from collections.abc import Iterator

import jwt
import pytest
from authlib.integrations.httpx_client import OAuth2Client
from authlib.oauth2.rfc8414 import AuthorizationServerMetadata, get_well_known_url

from mesh_command import EDITOR

MANY = 40
"""Calls in a row: more than anybody may make."""


@contextlib.contextmanager
def program(mesh, *roles: str) -> Iterator[OAuth2Client]:
    """A stock client that an administrator has made."""
    client_id = f"p-{uuid.uuid4().hex[:12]}"
    with mesh.rest(mesh.token(["admin"])) as rest:
        made = rest.post("/v1/clients", json={"client_id": client_id, "roles": list(roles)}).json()
        secret = made.get("client_secret") or made["clientSecret"]
        verify = ssl.create_default_context(cafile=mesh.state / "ca.pem")
        with OAuth2Client(client_id, secret, verify=verify, trust_env=False, timeout=30) as client:
            yield client
        rest.delete(f"/v1/clients/{client_id}")


def test_a_stock_client_needs_the_issuer_and_nothing_else(mesh):
    """RFC 8414 §3.3: the document names the issuer that its URL was made of, and what it names can be followed."""
    issuer = f"https://localhost:{mesh.port}"
    with program(mesh, "introspector") as client:
        document = client.request("GET", get_well_known_url(issuer, external=True), withhold_token=True).json()
        AuthorizationServerMetadata(document).validate()
        assert document["issuer"] == issuer
        token = client.fetch_token(document["token_endpoint"], grant_type="client_credentials")["access_token"]
        said = client.introspect_token(document["introspection_endpoint"], token).json()
        assert (said["active"], said["iss"], said["sub"]) == (True, issuer, client.client_id)
        context = ssl.create_default_context(cafile=mesh.state / "ca.pem")
        key = jwt.PyJWKClient(document["jwks_uri"], ssl_context=context).get_signing_key_from_jwt(token)
        assert jwt.decode(token, key, algorithms=["ES256"], audience="meshwork", issuer=issuer)["sub"] == said["sub"]
        assert client.revoke_token(document["revocation_endpoint"], token).status_code == 200
        assert client.introspect_token(document["introspection_endpoint"], token).json() == {"active": False}


@pytest.mark.parametrize("path", ["/oauth2/token", "/oauth2/revoke", "/oauth2/introspect"])
def test_what_is_refused_by_http_says_how_to_do_it(mesh, path):
    form = {"grant_type": "client_credentials", "token": "x"}
    with mesh.rest() as rest:
        refused = rest.post(path, data=form, auth=("nobody", "hunter2"))
        assert (refused.status_code, refused.headers["www-authenticate"].split()[0]) == (401, "Basic")
        assert refused.headers["cache-control"] == "no-store"
        wrong = rest.get(path)
        assert (wrong.status_code, wrong.headers["allow"]) == (405, "POST")


def test_a_wrong_password_by_rest_says_how_to_do_it(mesh):
    with mesh.rest() as rest:
        refused = rest.post("/v1/auth/login", json={"username": "nobody", "password": "wrong"})
    assert refused.status_code == 401
    assert refused.headers["www-authenticate"].startswith('Bearer realm="')


def test_who_asks_too_often_by_rest_hears_when_to_come_back(mesh):
    with mesh.rest() as rest:
        replies = [rest.post("/v1/users", json={"username": "somebody", "password": "x" * 20}) for _ in range(MANY)]
    held_up = [reply for reply in replies if reply.status_code == 429]
    assert held_up
    assert all(int(reply.headers["retry-after"]) >= 1 for reply in held_up)


def test_a_request_by_http_is_one_span_of_the_service_and_names_no_query(mesh):
    trace = uuid.uuid4().hex
    parent = f"00-{trace}-{uuid.uuid4().hex[:16]}-01"
    with mesh.rest() as rest:
        rest.post("/oauth2/token?client_secret=hunter2", headers={"traceparent": parent})
    shown = _spans(mesh, trace)
    assert "hunter2" not in shown
    assert shown.count("POST /oauth2/token") == 1


def test_what_has_secrets_is_stored_nowhere_and_keys_may_be(mesh):
    """RFC 6749 §5.1, also of answers by REST; RFC 9111 §5.2.2.5."""
    mesh.token()
    password = (mesh.state / "kept-secrets" / "users" / EDITOR).read_text()
    with mesh.rest() as rest:
        login = rest.post("/v1/auth/login", json={"username": EDITOR, "password": password})
        token = login.json().get("refresh_token") or login.json()["refreshToken"]
        refresh = rest.post("/v1/auth/refresh", json={"refresh_token": token})
        oauth = rest.post("/oauth2/revoke", data={"token": token})
        keys = rest.get("/.well-known/jwks.json")
    with mesh.rest(mesh.token(["admin"])) as rest:
        client = rest.post("/v1/clients", json={"client_id": f"p-{uuid.uuid4().hex[:12]}"})
    for reply in (login, refresh, oauth, client):
        assert (reply.status_code, reply.headers["cache-control"]) == (200, "no-store"), reply.text
    assert "max-age" in keys.headers["cache-control"]


def test_the_log_says_who_ended_a_session_and_from_where(mesh):
    """Whatever the client says of its address: what counts is where the ingress was called from."""
    session, admin = mesh.log_in(), mesh.token(["admin"])
    forged = {"x-forwarded-for": "192.0.2.66", "x-envoy-external-address": "192.0.2.66"}
    with mesh.rest(admin) as rest:
        assert rest.delete(f"/v1/auth/families/{session.family_id}", headers=forged).status_code == 200

    said = jwt.decode(session.access_token, options={"verify_signature": False})
    who = jwt.decode(admin, options={"verify_signature": False})["sub"]
    line = _told(mesh, session.family_id)
    assert (line["subject"], line["actor"], line["reason"]) == (said["sub"], who, "administrator")
    assert line["address"] in {"127.0.0.1", "::1"}


def _told(mesh, session: str) -> dict[str, str]:
    """The line about the end of a session."""
    give_up = time.monotonic() + 30
    while True:
        lines = [line for line in mesh("logs", "auth")[1].splitlines() if session in line and "session_revoked" in line]
        if lines:
            return json.loads(lines[-1][lines[-1].index("{") :])
        assert time.monotonic() < give_up, f"nothing of {session}"
        time.sleep(0.5)


def _spans(mesh, trace: str) -> str:
    """All that is known of a trace once the service has told its part of it."""
    give_up = time.monotonic() + 30
    while True:
        status, out, err = mesh("trace", trace, "--json")
        if status == 0 and "POST /oauth2/token" in out:
            return out
        assert time.monotonic() < give_up, f"{out}\n{err}"
        time.sleep(0.5)
