"""What becomes of tokens that are asked about, or taken back."""

import time
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import quote_plus

import httpx
import jwt
import pytest
from oauth_server import AUDIENCE, ISSUER, PASSWORD, SECRET, OAuth
from people import a_client, happened
from pydantic import SecretStr
from told import told

from auth.audit import Kind
from auth.client import hash_of
from auth.sql_clients import SqlClients

LOGIN = {"grant_type": "password", "username": "alice", "password": PASSWORD}


def as_(client_id: str) -> Mapping[str, str]:
    return {"authorization": f"Basic {b64encode(f'{client_id}:{quote_plus(SECRET)}'.encode()).decode()}"}


async def tokens(oauth: OAuth, http: httpx.AsyncClient, **headers: Any) -> dict[str, str]:
    found: dict[str, str] = (await http.post(oauth.token, data=LOGIN, **headers)).json()
    return found


async def asked(oauth: OAuth, http: httpx.AsyncClient, token: str) -> dict[str, Any]:
    reply = await http.post(oauth.introspect, data={"token": token}, headers=as_("watcher"))
    assert (reply.status_code, reply.headers["cache-control"]) == (200, "no-store")
    found: dict[str, Any] = reply.json()
    return found


async def test_what_an_access_token_proves(oauth: OAuth, http: httpx.AsyncClient) -> None:
    found = await asked(oauth, http, (await tokens(oauth, http))["access_token"])

    assert {name: found[name] for name in ("active", "iss", "aud", "client_id", "token_type", "roles", "scope")} == {
        "active": True,
        "iss": ISSUER,
        "aud": AUDIENCE,
        "client_id": "meshwork",
        "token_type": "Bearer",
        "roles": ["editor"],
        "scope": "items:read items:write",
    }
    assert found["exp"] - found["iat"] == 600
    assert len(found["jti"]) == 32


async def test_what_a_refresh_token_proves(oauth: OAuth, http: httpx.AsyncClient) -> None:
    found = await asked(oauth, http, (await tokens(oauth, http))["refresh_token"])

    assert (found["active"], found["client_id"], "token_type" in found) == (True, "meshwork", False)
    assert len(found["sid"]) == 32


@pytest.mark.parametrize("token", ["x", "mrt_x", "eyJhbGciOiJub25lIn0.e30.", "x" * 8192, "ö"])
async def test_what_is_no_token_is_not_active_and_is_taken_back_all_the_same(
    oauth: OAuth, http: httpx.AsyncClient, token: str
) -> None:
    assert await asked(oauth, http, token) == {"active": False}
    for headers in ({}, as_("billing")):
        reply = await http.post(oauth.revoke, data={"token": token}, headers=headers)
        assert (reply.status_code, reply.content) == (200, b"")


@pytest.mark.parametrize("endpoint", ["introspect", "revoke"])
async def test_a_token_there_must_be(oauth: OAuth, http: httpx.AsyncClient, endpoint: str) -> None:
    url = getattr(oauth, endpoint)
    for form in ({}, {"token": ""}, {"token": "x" * 8193}, {"token": ["x", "x"]}):
        reply = await http.post(url, data=form, headers=as_("watcher"))
        assert (reply.status_code, reply.json()["error"]) == (400, "invalid_request")


async def test_only_clients_with_a_role_for_it_may_ask(oauth: OAuth, http: httpx.AsyncClient) -> None:
    form = {"token": (await tokens(oauth, http))["access_token"]}

    for headers, status, error in (
        ({}, 401, "invalid_client"),
        ({"authorization": f"Bearer {form['token']}"}, 401, "invalid_client"),
        (as_("nobody"), 401, "invalid_client"),
        (as_("billing"), 403, "access_denied"),
    ):
        reply = await http.post(oauth.introspect, data=form, headers=headers)
        assert (reply.status_code, reply.json()["error"]) == (status, error)
        assert ("www-authenticate" in reply.headers) == (status == 401)


async def test_a_refresh_token_is_taken_back_with_its_session(oauth: OAuth, http: httpx.AsyncClient) -> None:
    had = await tokens(oauth, http)

    hint = {"token_type_hint": "access_token"}  # a wrong hint does no harm (RFC 7009 §2.1)
    reply = await http.post(oauth.revoke, data={"token": had["refresh_token"], **hint})

    assert (reply.status_code, reply.headers["cache-control"]) == (200, "no-store")
    assert await asked(oauth, http, had["refresh_token"]) == {"active": False}
    assert await asked(oauth, http, had["access_token"]) == {"active": False}
    assert [event.kind for event in await told(oauth.engine)][-1] is Kind.SESSION_REVOKED


async def test_an_access_token_is_taken_back_alone(oauth: OAuth, http: httpx.AsyncClient) -> None:
    had = await tokens(oauth, http)
    found = await asked(oauth, http, had["access_token"])

    assert (await http.post(oauth.revoke, data={"token": had["access_token"]})).status_code == 200

    last = (await told(oauth.engine))[-1]
    assert (last.kind, last.token_id) == (Kind.TOKEN_REVOKED, found["jti"])
    assert (await asked(oauth, http, had["refresh_token"]))["active"]


async def test_nobody_takes_back_what_another_client_has(oauth: OAuth, http: httpx.AsyncClient) -> None:
    users, billings = await tokens(oauth, http), await tokens(oauth, http, headers=as_("billing"))

    for token, headers in (
        (users["refresh_token"], as_("billing")),
        (billings["refresh_token"], as_("watcher")),
        (billings["refresh_token"], {}),
        (billings["access_token"], {}),
    ):
        reply = await http.post(oauth.revoke, data={"token": token}, headers=headers)
        assert (reply.status_code, reply.json()["error"]) == (400, "invalid_grant")  # RFC 7009 §2.1, RFC 6749 §5.2
        assert reply.headers["cache-control"] == "no-store"
        assert (await asked(oauth, http, token))["active"]
    assert Kind.TOKEN_REVOKED not in {event.kind for event in await told(oauth.engine)}
    wrong = {"authorization": f"Basic {b64encode(b'billing:wrong').decode()}"}
    assert (await http.post(oauth.revoke, data={"token": "x"}, headers=wrong)).status_code == 401
    reply = await http.post(oauth.revoke, data={"token": billings["refresh_token"]}, headers=as_("billing"))
    assert reply.status_code == 200
    assert await asked(oauth, http, billings["refresh_token"]) == {"active": False}


@pytest.mark.parametrize(
    ("claims", "active"),
    [
        ({"exp": 0}, False),
        ({"exp": -1}, False),
        ({"exp": -59}, False),
        ({"exp": 60}, True),
        ({"nbf": 30}, False),
        ({"nbf": -1}, True),
        ({"iat": 30, "nbf": 30}, True),  # issued by a replica whose clock is ahead
    ],
)
async def test_a_token_is_active_from_its_first_second_to_its_last(
    oauth: OAuth, http: httpx.AsyncClient, claims: Mapping[str, int], active: bool
) -> None:
    """RFC 7662 §4: the issuer knows the time, and allows for no other."""
    now = int(time.time())
    said = {"iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "client_id": "meshwork", "jti": "x", "iat": now - 600}
    said |= {"exp": now + 600} | {name: now + seconds for name, seconds in claims.items()}
    token = await oauth.ring.sign(said)

    assert (await asked(oauth, http, token))["active"] is active
    assert await oauth.verifier.verify(token)  # which services may still do, or do already


async def test_what_is_not_active_any_more_is_taken_back_while_services_may_take_it(
    oauth: OAuth, http: httpx.AsyncClient
) -> None:
    now = int(time.time())
    said = {"iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "client_id": "meshwork", "jti": "late", "iat": now - 600}
    token = await oauth.ring.sign(said | {"exp": now - 5})

    assert (await http.post(oauth.revoke, data={"token": token})).status_code == 200
    last = (await told(oauth.engine))[-1]
    assert (last.kind, last.token_id) == (Kind.TOKEN_REVOKED, "late")


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"])
@pytest.mark.parametrize("endpoint", ["token", "revoke", "introspect"])
async def test_another_method_is_told_which_one_there_is(
    oauth: OAuth, http: httpx.AsyncClient, endpoint: str, method: str
) -> None:
    reply = await http.request(method, getattr(oauth, endpoint), params={"client_secret": "hunter2"})

    assert (reply.status_code, reply.headers["allow"]) == (405, "POST")
    assert (reply.headers["cache-control"], reply.headers["pragma"]) == ("no-store", "no-cache")
    assert method == "HEAD" or reply.json().keys() == {"error", "error_description"}


async def test_documents_are_read_only(oauth: OAuth, http: httpx.AsyncClient) -> None:
    reply = await http.post(oauth.jwks)

    assert (reply.status_code, set(reply.headers["allow"].split(", "))) == (405, {"GET", "HEAD"})
    nowhere = await http.post(f"{oauth.url}/oauth2/authorize")
    assert (nowhere.status_code, nowhere.headers["cache-control"]) == (404, "no-store")


@pytest.mark.parametrize("endpoint", ["token", "revoke", "introspect"])
@pytest.mark.parametrize("query", ["token=x", "client_secret=x", "x", "a=b&token=x", "access_token=x"])
async def test_nothing_is_taken_from_a_query(oauth: OAuth, http: httpx.AsyncClient, endpoint: str, query: str) -> None:
    """RFC 6749 §2.3.1, RFC 9700 §4.3.2: where the parameters are good in the body, a query is refused all the same."""
    form = {**LOGIN, "token": "x"} if endpoint == "token" else {"token": "x"}
    headers = as_("watcher") if endpoint == "introspect" else {}
    reply = await http.post(f"{getattr(oauth, endpoint)}?{query}", data=form, headers=headers)

    assert (reply.status_code, reply.json()["error"]) == (400, "invalid_request")


async def test_what_has_no_scope_has_none_in_any_answer(oauth: OAuth, http: httpx.AsyncClient) -> None:
    """RFC 6749 appendix A.4: "" is no scope."""
    bare = replace(a_client("bare"), secret_hash=hash_of(SecretStr(SECRET)), scopes=frozenset())
    await SqlClients(oauth.engine).add(bare, happened(Kind.CLIENT_CREATED))
    reply = await http.post(oauth.token, data={"grant_type": "client_credentials", "scope": ""}, headers=as_("bare"))

    assert "scope" not in reply.json()
    assert "scope" not in jwt.decode(reply.json()["access_token"], options={"verify_signature": False})
    found = await asked(oauth, http, reply.json()["access_token"])
    assert found["active"]
    assert "scope" not in found
