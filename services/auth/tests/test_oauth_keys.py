"""The documents: keys and metadata, and what becomes of them while the signer is away."""

import asyncio
import socket
import time
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import hvac
import pytest
from oauth_server import ISSUER, SECRET, OAuth, serving

from auth.oauth.metadata import MetadataEndpoint
from auth.transit_signer import TransitSigner
from grpc_common.jwk_set import KeySet
from grpc_common.settings import SettingsError
from localmesh.parts.openbao import OpenBao


class Later:
    """A clock that is ahead of the true one by some seconds."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return time.time() + self.seconds


CLIENT = {"grant_type": "client_credentials", "client_id": "billing", "client_secret": SECRET}


async def test_the_keys_are_kept_for_less_than_a_key_is_published_ahead(oauth: OAuth, http: httpx.AsyncClient) -> None:
    reply = await http.get(oauth.jwks)

    assert reply.headers["cache-control"] == "public, max-age=60"
    assert reply.headers["content-type"] == "application/jwk-set+json"
    assert len(KeySet.parse(reply.content).kids) == 1
    assert "d" not in reply.json()["keys"][0]


@pytest.mark.parametrize(("ahead", "kept"), [(130.0, 35), (62.0, 1), (60.5, 0)])
async def test_where_a_key_signs_soon_the_keys_are_kept_for_less(
    tmp_path: Path, http: httpx.AsyncClient, ahead: float, kept: int
) -> None:
    async with serving(tmp_path, key_ahead=ahead) as oauth:
        assert (await http.get(oauth.jwks)).headers["cache-control"] == f"public, max-age={kept}"


async def test_who_has_the_keys_already_gets_none(oauth: OAuth, http: httpx.AsyncClient) -> None:
    etag = (await http.get(oauth.jwks)).headers["etag"]

    for known in (etag, f"W/{etag}", f'"x", {etag}', "*"):
        reply = await http.get(oauth.jwks, headers={"if-none-match": known})
        assert (reply.status_code, reply.content, reply.headers["etag"]) == (304, b"", etag)
        assert reply.headers["cache-control"] == "public, max-age=60"
    before = KeySet.parse((await http.get(oauth.jwks)).content).kids
    made, _ = await oauth.ring.rotate()
    reply = await http.get(oauth.jwks, headers={"if-none-match": etag})
    assert KeySet.parse(reply.content).kids == before | {made}


async def test_a_head_has_what_a_get_would_have_had_and_no_body(oauth: OAuth, http: httpx.AsyncClient) -> None:
    get, head = await http.get(oauth.jwks), await http.head(oauth.jwks)

    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["etag"] == get.headers["etag"]


async def test_without_the_signer_known_keys_are_published_and_no_token_is_issued_until_it_is_back(
    own_openbao: OpenBao, tmp_path: Path, http: httpx.AsyncClient
) -> None:
    vault, later = await asyncio.to_thread(own_openbao.client), Later()
    async with (
        TransitSigner(vault, "access", timeout=20) as signer,
        serving(tmp_path, signer, clock=later) as oauth,
    ):
        assert (await http.post(oauth.token, data=CLIENT)).status_code == 200
        before = (await http.get(oauth.jwks)).content
        await own_openbao.stop()
        later.seconds += 61  # now the keys are to be read again

        assert (await http.get(oauth.jwks)).content == before
        reply = await http.post(oauth.token, data=CLIENT)
        assert (reply.status_code, reply.json()["error"]) == (503, "temporarily_unavailable")
        assert int(reply.headers["retry-after"]) >= 1

        await own_openbao.start()
        await asyncio.to_thread(own_openbao.client)
        assert (await http.post(oauth.token, data=CLIENT)).status_code == 200


async def test_a_signer_that_hangs_does_not_hold_up_those_who_verify(
    vault: hvac.Client, tmp_path: Path, http: httpx.AsyncClient
) -> None:
    later = Later()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        async with (
            TransitSigner(vault, "hanging", timeout=60.0) as signer,
            serving(tmp_path, signer, clock=later) as oauth,
        ):
            before = await http.get(oauth.jwks)
            vault.url = f"http://127.0.0.1:{silent.getsockname()[1]}"
            later.seconds += 61

            replies = await asyncio.gather(*(http.get(oauth.jwks) for _ in range(5)))
            assert {(reply.status_code, reply.content) for reply in replies} == {(200, before.content)}


async def test_where_no_key_was_ever_read_the_keys_come_later(
    own_openbao: OpenBao, tmp_path: Path, http: httpx.AsyncClient
) -> None:
    vault = await asyncio.to_thread(own_openbao.client)
    async with TransitSigner(vault, "access", timeout=20) as signer:
        await own_openbao.stop()
        async with serving(tmp_path, signer) as oauth:
            reply = await http.get(oauth.jwks)
            assert (reply.status_code, reply.headers["cache-control"]) == (503, "no-store")
            assert int(reply.headers["retry-after"]) >= 1


async def test_the_metadata_name_what_is_served_and_nothing_else(oauth: OAuth, http: httpx.AsyncClient) -> None:
    told = (await http.get(f"{oauth.url}/.well-known/oauth-authorization-server")).json()

    assert told["issuer"] == ISSUER
    assert told["grant_types_supported"] == ["client_credentials", "refresh_token", "password"]
    assert told["scopes_supported"] == ["items:read", "items:write"]
    assert all(told.values())  # RFC 8414 §3.2: nothing empty
    assert "authorization_endpoint" not in told
    assert not [name for name in told if "id_token" in name or "subject" in name]  # nothing of OpenID Connect
    for name in ("token_endpoint", "revocation_endpoint", "introspection_endpoint"):
        path = urlsplit(told[name]).path
        assert told[name] == f"{ISSUER}{path}"
        assert (await http.post(f"{oauth.url}{path}")).status_code == 400
    assert (await http.get(f"{oauth.url}{urlsplit(told['jwks_uri']).path}")).status_code == 200


async def test_an_issuer_with_a_path_has_its_metadata_where_the_rfc_says(
    tmp_path: Path, http: httpx.AsyncClient
) -> None:
    async with serving(tmp_path, issuer=f"{ISSUER}/mesh") as oauth:
        told = (await http.get(f"{oauth.url}/.well-known/oauth-authorization-server/mesh")).json()
        assert (told["issuer"], told["token_endpoint"]) == (f"{ISSUER}/mesh", f"{ISSUER}/mesh/oauth2/token")
        # Fetched from elsewhere it would not be the issuer's (§3.3).
        assert (await http.get(f"{oauth.url}/.well-known/oauth-authorization-server")).status_code == 404


@pytest.mark.parametrize(
    "issuer",
    [
        "meshwork",
        "https://",
        "https://a.example/?x=1",
        "https://a.example/#x",
        "ftp://a",
        "https://a@b.example",
        "https://b.example/?",
        "https://b.example/ x",
    ],
)
def test_an_issuer_that_is_no_url_is_refused(issuer: str) -> None:
    with pytest.raises(SettingsError, match="must be a URL such as"):
        MetadataEndpoint(issuer, grants=["refresh_token"])


async def test_there_is_nothing_else(oauth: OAuth, http: httpx.AsyncClient) -> None:
    for path in (
        "/",
        "/docs",
        "/openapi.json",
        "/oauth2/authorize",
        "/.well-known/",
        "/.well-known/openid-configuration",
    ):
        assert (await http.get(f"{oauth.url}{path}")).status_code == 404
