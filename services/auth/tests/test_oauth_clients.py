"""Stock clients against OAuth's endpoints: what others use works as it is."""

import asyncio

import httpx
import jwt
import pytest
from authlib.integrations.base_client import OAuthError
from authlib.integrations.httpx_client import AsyncOAuth2Client
from authlib.oauth2.rfc8414 import AuthorizationServerMetadata
from oauth_server import AUDIENCE, ISSUER, PASSWORD, STOCK_SECRET, OAuth
from oauthlib.oauth2 import BackendApplicationClient, LegacyApplicationClient
from oauthlib.oauth2.rfc6749.errors import InvalidGrantError, InvalidScopeError

from grpc_common.jwks_client import JWKSClient
from grpc_common.token_verifier import Issuer, TokenVerifier

FORM = {"content-type": "application/x-www-form-urlencoded"}


@pytest.fixture
def loopback_is_secure_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OAUTHLIB_INSECURE_TRANSPORT", "1")


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
async def test_authlib_gets_a_token_for_a_program(oauth: OAuth, method: str) -> None:
    async with AsyncOAuth2Client(
        "stock", STOCK_SECRET, token_endpoint_auth_method=method, scope="items:read", trust_env=False
    ) as client:
        token = await client.fetch_token(oauth.token, grant_type="client_credentials")

        assert (token["token_type"], token["scope"]) == ("Bearer", "items:read")
        assert not token.is_expired()
        assert (await oauth.verifier.verify(token["access_token"])).subject == "stock"


async def test_authlib_carries_a_users_session_on_and_ends_it(oauth: OAuth) -> None:
    async with AsyncOAuth2Client("stock", STOCK_SECRET, trust_env=False) as client:
        first = dict(await client.fetch_token(oauth.token, username="alice", password=PASSWORD, grant_type="password"))
        second = await client.refresh_token(oauth.token)

        assert second["refresh_token"] != first["refresh_token"]
        assert (await client.revoke_token(oauth.revoke, second["refresh_token"])).status_code == 200
        with pytest.raises(OAuthError) as refused:
            await client.refresh_token(oauth.token, second["refresh_token"])
        assert refused.value.error == "invalid_grant"


async def test_authlib_renews_a_token_by_itself(oauth: OAuth) -> None:
    async with AsyncOAuth2Client(
        "stock",
        STOCK_SECRET,
        token_endpoint=oauth.token,
        grant_type="client_credentials",
        trust_env=False,
    ) as client:
        first = await client.fetch_token()
        client.token["expires_at"] = 1
        reply = await client.get(oauth.jwks)

        assert reply.status_code == 200
        assert client.token["access_token"] != first["access_token"]


async def test_authlib_introspects(oauth: OAuth) -> None:
    async with AsyncOAuth2Client("stock", STOCK_SECRET, trust_env=False) as client:
        token = await client.fetch_token(oauth.token, grant_type="client_credentials")
        told = (await client.introspect_token(oauth.introspect, token["access_token"])).json()

        assert (told["active"], told["sub"], told["iss"], told["aud"]) == (True, "stock", ISSUER, AUDIENCE)


async def test_authlib_finds_the_metadata_in_order(oauth: OAuth, http: httpx.AsyncClient) -> None:
    document = (await http.get(f"{oauth.url}/.well-known/oauth-authorization-server")).json()

    AuthorizationServerMetadata(document).validate()


@pytest.mark.usefixtures("loopback_is_secure_enough")
async def test_oauthlib_gets_a_token_for_a_program(oauth: OAuth, http: httpx.AsyncClient) -> None:
    client = BackendApplicationClient("stock", scope="items:read")
    url, headers, body = client.prepare_token_request(
        oauth.token, include_client_id=True, client_secret=STOCK_SECRET, headers=FORM
    )
    reply = await http.post(url, content=body, headers=headers)
    token = client.parse_request_body_response(reply.text)

    assert (token["token_type"], token.scope, token.scope_changed) == ("Bearer", "items:read", False)
    refused = BackendApplicationClient("stock", scope="items:delete")
    url, headers, body = refused.prepare_token_request(
        oauth.token, include_client_id=True, client_secret=STOCK_SECRET, headers=FORM
    )
    reply = await http.post(url, content=body, headers=headers)
    with pytest.raises(InvalidScopeError):
        refused.parse_request_body_response(reply.text)


@pytest.mark.usefixtures("loopback_is_secure_enough")
async def test_oauthlib_logs_a_user_in_and_out(oauth: OAuth, http: httpx.AsyncClient) -> None:
    client = LegacyApplicationClient("meshwork")

    async def ask(url: str, headers: dict[str, str], body: str) -> httpx.Response:
        return await http.post(url, content=body, headers={**FORM, **headers})

    def asked(**how: str) -> tuple[str, dict[str, str], str]:
        return client.prepare_token_request(oauth.token, username="alice", include_client_id=True, **how)

    with pytest.raises(InvalidGrantError):
        client.parse_request_body_response((await ask(*asked(password="wrong"))).text)
    first = client.parse_request_body_response((await ask(*asked(password=PASSWORD))).text)
    second = client.parse_request_body_response((await ask(*client.prepare_refresh_token_request(oauth.token))).text)
    assert second["refresh_token"] != first["refresh_token"]

    revoke = client.prepare_token_revocation_request(oauth.revoke, second["refresh_token"], "refresh_token")
    assert (await ask(*revoke)).status_code == 200
    reply = await ask(*client.prepare_refresh_token_request(oauth.token))
    with pytest.raises(InvalidGrantError):
        client.parse_request_body_response(reply.text)


async def test_pyjwt_and_our_own_client_verify_with_the_published_keys(oauth: OAuth, http: httpx.AsyncClient) -> None:
    reply = await http.post(
        oauth.token,
        data={"grant_type": "client_credentials", "client_id": "stock", "client_secret": STOCK_SECRET},
    )
    token = reply.json()["access_token"]

    key = await asyncio.to_thread(jwt.PyJWKClient(oauth.jwks).get_signing_key_from_jwt, token)
    claims = jwt.decode(token, key, algorithms=["ES256"], audience=AUDIENCE, issuer=ISSUER)
    assert claims["sub"] == "stock"
    async with JWKSClient(oauth.jwks) as keys:
        principal = await TokenVerifier([Issuer(ISSUER, AUDIENCE, keys)]).verify(token)
        assert principal.subject == "stock"
