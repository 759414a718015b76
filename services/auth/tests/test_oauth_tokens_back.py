"""What becomes of tokens that are asked about, or taken back."""

from base64 import b64encode
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote_plus

import httpx
import pytest
from oauth_server import AUDIENCE, ISSUER, PASSWORD, SECRET, OAuth
from told import told

from auth.audit import Kind

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
        assert (await http.post(oauth.revoke, data={"token": token}, headers=headers)).status_code == 200
        assert (await asked(oauth, http, token))["active"]
    wrong = {"authorization": f"Basic {b64encode(b'billing:wrong').decode()}"}
    assert (await http.post(oauth.revoke, data={"token": "x"}, headers=wrong)).status_code == 401
    reply = await http.post(oauth.revoke, data={"token": billings["refresh_token"]}, headers=as_("billing"))
    assert reply.status_code == 200
    assert await asked(oauth, http, billings["refresh_token"]) == {"active": False}
