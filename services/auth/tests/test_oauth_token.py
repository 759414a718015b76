"""The token endpoint, by plain HTTP: what the RFCs say, to the letter."""

import asyncio
import sqlite3
import tempfile
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from urllib.parse import quote_plus

import httpx
import pytest
from oauth_server import PASSWORD, SECRET, USER_SCOPES, OAuth, caller, serving
from sqlalchemy import text
from structlog.testing import capture_logs
from told import told

from grpc_common.http_settings import HTTPServerSettings

LOGIN = {"grant_type": "password", "username": "alice", "password": PASSWORD}


@pytest.fixture
def short_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as short:  # a socket's path has at most 107 bytes
        yield Path(short)


FORM = "application/x-www-form-urlencoded"


def basic(client_id: str = "billing", secret: str = SECRET) -> Mapping[str, str]:
    proof = f"{quote_plus(client_id)}:{quote_plus(secret)}".encode()
    return {"authorization": f"Basic {b64encode(proof).decode()}"}


def is_error(reply: httpx.Response, status: int, error: str) -> None:
    assert (reply.status_code, reply.json()["error"]) == (status, error), reply.text
    assert reply.json().keys() == {"error", "error_description"}
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["cache-control"] == "no-store"
    assert SECRET not in reply.text
    assert PASSWORD not in reply.text


async def test_a_client_gets_a_token_that_every_service_takes(oauth: OAuth, http: httpx.AsyncClient) -> None:
    reply = await http.post(oauth.token, data={"grant_type": "client_credentials"}, headers=basic())

    assert (reply.status_code, reply.headers["cache-control"], reply.headers["pragma"]) == (200, "no-store", "no-cache")
    told = reply.json()
    assert told.keys() == {"access_token", "token_type", "expires_in", "scope"}
    assert (told["token_type"], told["scope"]) == ("Bearer", "items:read items:write")
    assert 590 < told["expires_in"] <= 600
    principal = await oauth.verifier.verify(told["access_token"])
    assert (principal.subject, principal.client_id, principal.roles) == ("billing", "billing", {"biller"})


async def test_a_client_may_send_its_secret_in_the_body(oauth: OAuth, http: httpx.AsyncClient) -> None:
    form = {"grant_type": "client_credentials", "client_id": "billing", "client_secret": SECRET, "scope": "items:read"}
    reply = await http.post(oauth.token, data=form)

    assert (reply.status_code, reply.json()["scope"]) == (200, "items:read")


@pytest.mark.parametrize("scope", ["items:read items:delete", "items:read  items:write", " items:read", 'x"', "ö"])
async def test_a_scope_that_cannot_be_had(oauth: OAuth, http: httpx.AsyncClient, scope: str) -> None:
    form = {"grant_type": "client_credentials", "scope": scope}
    is_error(await http.post(oauth.token, data=form, headers=basic()), 400, "invalid_scope")


@pytest.mark.parametrize(
    "headers",
    [
        basic(secret="wrong"),
        basic("nobody"),
        basic("nobody\x00"),
        basic("x" * 65),
        basic(secret="x" * 257),
        {"authorization": "Basic"},
        {"authorization": "Basic !!!!"},
        {"authorization": f"Basic {b64encode(b'billing').decode()}"},
        {"authorization": f"Basic {b64encode(b'billing:%ff').decode()}"},
        {"authorization": f"Basic {b64encode(bytes([0xFF, 0x3A])).decode()}"},
        {"authorization": "Bearer billing"},
        {},
    ],
)
async def test_a_client_that_does_not_prove_itself(
    oauth: OAuth, http: httpx.AsyncClient, headers: Mapping[str, str]
) -> None:
    reply = await http.post(oauth.token, data={"grant_type": "client_credentials"}, headers=headers)

    is_error(reply, 401, "invalid_client")
    assert reply.headers["www-authenticate"] == 'Basic realm="auth", charset="UTF-8"'


async def test_a_client_proves_itself_in_one_way_only(oauth: OAuth, http: httpx.AsyncClient) -> None:
    form = {"grant_type": "client_credentials"}
    both = {**form, "client_id": "billing", "client_secret": SECRET}
    is_error(await http.post(oauth.token, data=both, headers=basic()), 400, "invalid_request")
    is_error(
        await http.post(oauth.token, data=form, headers=[*basic().items(), *basic().items()]), 400, "invalid_request"
    )
    other = {**form, "client_id": "watcher"}
    is_error(await http.post(oauth.token, data=other, headers=basic()), 400, "invalid_request")
    same = {**form, "client_id": "billing"}
    assert (await http.post(oauth.token, data=same, headers=basic())).status_code == 200


async def test_the_first_party_has_no_secret_and_calls_in_no_name_of_its_own(
    oauth: OAuth, http: httpx.AsyncClient
) -> None:
    form = {"grant_type": "client_credentials", "client_id": "meshwork"}
    is_error(await http.post(oauth.token, data=form), 400, "unauthorized_client")


@pytest.mark.parametrize(
    "grant", ["authorization_code", "implicit", "urn:ietf:params:oauth:grant-type:device_code", "x"]
)
async def test_a_grant_that_is_not_served(oauth: OAuth, http: httpx.AsyncClient, grant: str) -> None:
    is_error(await http.post(oauth.token, data={"grant_type": grant}), 400, "unsupported_grant_type")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"grant_type",
        b"grant_type=",
        b"grant_type=client_credentials&grant_type=client_credentials",
        b"grant_type=client_credentials&scope=a&scope=",
        b"grant_type=client_credentials&scope=%ff",
        b"grant_type=client_credentials&scope=\xc3\xb6",
        b"grant_type=client_credentials&client_id=billing&client_secret=%00",
        b"grant_type=refresh_token",
        b"grant_type=refresh_token&refresh_token=" + b"x" * 257,
        b"grant_type=password&username=alice",
        b"grant_type=password&password=x",
        b"grant_type=password&password=x&username=" + b"x" * 65,
        b"grant_type=password&username=alice&password=" + b"x" * 257,
        b"&".join(b"p%d=x" % number for number in range(40)),
        b"grant_type=client_credentials&x=" + b"%41" * 2_049,
    ],
)
async def test_a_form_that_cannot_be_read(oauth: OAuth, http: httpx.AsyncClient, body: bytes) -> None:
    headers = {"content-type": "application/x-www-form-urlencoded; charset=utf-8"}
    is_error(await http.post(oauth.token, content=body, headers=headers), 400, "invalid_request")


@pytest.mark.parametrize("kind", ["application/json", "multipart/form-data; boundary=x", "text/plain", None])
async def test_only_a_form_is_read(oauth: OAuth, http: httpx.AsyncClient, kind: str | None) -> None:
    headers = {"content-type": kind} if kind else {}
    reply = await http.post(oauth.token, content=b"grant_type=client_credentials", headers=headers)
    is_error(reply, 400, "invalid_request")


async def test_parameters_in_the_url_are_refused_and_the_method_is_post(oauth: OAuth, http: httpx.AsyncClient) -> None:
    reply = await http.post(
        f"{oauth.token}?client_secret=x", data={"grant_type": "client_credentials"}, headers=basic()
    )
    is_error(reply, 400, "invalid_request")
    reply = await http.get(oauth.token)
    assert (reply.status_code, reply.headers["allow"]) == (405, "POST")
    assert (await http.post(f"{oauth.token}/", data=LOGIN)).status_code == 404


async def test_a_user_logs_in_with_a_password_where_that_is_allowed(oauth: OAuth, http: httpx.AsyncClient) -> None:
    reply = await http.post(oauth.token, data={**LOGIN, "scope": "items:read"})

    told = reply.json()
    assert (reply.status_code, told["scope"]) == (200, "items:read")
    principal = await oauth.verifier.verify(told["access_token"])
    assert (principal.client_id, principal.roles, len(principal.session_id)) == ("meshwork", {"editor"}, 32)


@pytest.mark.parametrize("wrong", [{"password": "wrong"}, {"username": "bob"}, {"username": "ALICE\u2028"}])
async def test_a_wrong_password_is_an_invalid_grant(
    oauth: OAuth, http: httpx.AsyncClient, wrong: dict[str, str]
) -> None:
    is_error(await http.post(oauth.token, data={**LOGIN, **wrong}), 400, "invalid_grant")


async def test_where_passwords_are_not_allowed_there_is_no_such_grant(tmp_path: Path, http: httpx.AsyncClient) -> None:
    async with serving(tmp_path, password_grant=False) as oauth:
        is_error(await http.post(oauth.token, data=LOGIN), 400, "unsupported_grant_type")
        metadata = (await http.get(f"{oauth.url}/.well-known/oauth-authorization-server")).json()
        assert metadata["grant_types_supported"] == ["client_credentials", "refresh_token"]


async def test_a_browser_carries_its_session_on_without_a_secret(oauth: OAuth, http: httpx.AsyncClient) -> None:
    first = (await http.post(oauth.token, data=LOGIN)).json()
    form = {"grant_type": "refresh_token", "refresh_token": first["refresh_token"]}

    second = await http.post(oauth.token, data=form)
    again = await http.post(oauth.token, data={**form, "client_id": "meshwork"})

    assert second.status_code == again.status_code == 200
    assert second.json()["refresh_token"] == again.json()["refresh_token"] != first["refresh_token"]
    assert second.json()["scope"] == " ".join(sorted(USER_SCOPES))
    # A client, though it proves itself, has no part in that session, and an unproved one has none in a client's.
    is_error(await http.post(oauth.token, data=form, headers=basic()), 400, "invalid_grant")


async def test_a_session_begun_by_a_client_is_carried_on_by_that_client_only(
    oauth: OAuth, http: httpx.AsyncClient
) -> None:
    first = (await http.post(oauth.token, data=LOGIN, headers=basic())).json()
    form = {"grant_type": "refresh_token", "refresh_token": first["refresh_token"]}

    is_error(await http.post(oauth.token, data=form), 400, "invalid_grant")
    is_error(await http.post(oauth.token, data={**form, "client_id": "billing"}), 401, "invalid_client")
    is_error(await http.post(oauth.token, data=form, headers=basic("watcher")), 400, "invalid_grant")
    is_error(await http.post(oauth.token, data=form, headers=basic(secret="wrong")), 401, "invalid_client")
    assert (await http.post(oauth.token, data=form, headers=basic())).status_code == 200


async def test_a_refresh_gives_no_scope_that_the_session_does_not_have(oauth: OAuth, http: httpx.AsyncClient) -> None:
    first = (await http.post(oauth.token, data={**LOGIN, "scope": "items:read"})).json()
    form = {"grant_type": "refresh_token", "refresh_token": first["refresh_token"]}

    is_error(await http.post(oauth.token, data={**form, "scope": "items:read items:write"}), 400, "invalid_scope")
    assert (await http.post(oauth.token, data={**form, "scope": "items:read"})).json()["scope"] == "items:read"


async def test_a_narrower_scope_is_for_one_access_token_and_the_session_keeps_all(
    oauth: OAuth, http: httpx.AsyncClient
) -> None:
    """RFC 6749 §6."""
    first = (await http.post(oauth.token, data=LOGIN)).json()
    form = {"grant_type": "refresh_token", "refresh_token": first["refresh_token"]}

    narrow = (await http.post(oauth.token, data={**form, "scope": "items:read"})).json()

    assert narrow["scope"] == "items:read"
    assert (await oauth.verifier.verify(narrow["access_token"])).scopes == {"items:read"}
    wide = (await http.post(oauth.token, data={**form, "refresh_token": narrow["refresh_token"]})).json()
    assert wide["scope"] == " ".join(sorted(USER_SCOPES))
    assert (await oauth.verifier.verify(wide["access_token"])).scopes == USER_SCOPES


@pytest.mark.parametrize("token", ["x", "mrt_" + "0" * 32 + ".0." + "A" * 43, "ö", "eyJhbGciOiJub25lIn0.e30."])
async def test_what_is_no_refresh_token(oauth: OAuth, http: httpx.AsyncClient, token: str) -> None:
    form = {"grant_type": "refresh_token", "refresh_token": token}
    is_error(await http.post(oauth.token, data=form), 400, "invalid_grant")
    is_error(await http.post(oauth.token, data={**form, "scope": "items:read"}), 400, "invalid_grant")


async def test_who_tries_too_often_is_told_when_to_come_back(tmp_path: Path, http: httpx.AsyncClient) -> None:
    async with serving(tmp_path, guard_address_burst=1, guard_address_rate=0.01) as oauth:
        wrong = {**LOGIN, "password": "wrong"}
        is_error(await http.post(oauth.token, data=wrong), 400, "invalid_grant")
        client = {"grant_type": "client_credentials"}
        is_error(await http.post(oauth.token, data=client, headers=basic(secret="wrong")), 401, "invalid_client")
        for form, headers in ((LOGIN, {}), (client, basic(secret="wrong"))):
            reply = await http.post(oauth.token, data=form, headers=headers)
            is_error(reply, 429, "temporarily_unavailable")
            assert 50 < int(reply.headers["retry-after"]) <= 100
        assert (await http.post(oauth.token, data=client, headers=basic())).status_code == 200


async def test_http_is_no_way_around_the_rate_that_the_policy_gives(oauth: OAuth, http: httpx.AsyncClient) -> None:
    """20 at once are what the policy of IssueServiceToken has; another client at the same address has its own."""
    form = {"grant_type": "client_credentials"}
    replies = await asyncio.gather(*(http.post(oauth.token, data=form, headers=basic()) for _ in range(60)))
    refused = [reply for reply in replies if reply.status_code == 429]

    assert refused
    is_error(refused[0], 429, "temporarily_unavailable")
    assert refused[0].headers["retry-after"] == "1"
    assert (await http.post(oauth.token, data=form, headers=basic("watcher"))).status_code == 200


@pytest.mark.parametrize("endpoint", ["token", "revoke"])
async def test_who_knows_the_id_alone_uses_up_nothing_of_the_client(
    oauth: OAuth, http: httpx.AsyncClient, endpoint: str
) -> None:
    """An old instance with a stale secret, or anybody at its address, does not hold up the one with the right one."""
    url, form = getattr(oauth, endpoint), {"grant_type": "client_credentials", "token": "x"}
    wrong = [
        http.post(url, data=form, headers=basic(secret="stale")) for _ in range(150)
    ]  # more than either may at once
    assert {reply.status_code for reply in await asyncio.gather(*wrong)} == {401}

    assert (await http.post(url, data=form, headers=basic())).status_code == 200


async def test_the_address_is_that_of_the_connection_whatever_the_headers_say(
    oauth: OAuth, http: httpx.AsyncClient
) -> None:
    form = {**LOGIN, "password": "wrong"}
    await http.post(oauth.token, data=form, headers={"x-forwarded-for": "192.0.2.7"})
    assert (await told(oauth.engine))[-1].address == "127.0.0.1"


async def test_through_a_sidecar_the_address_is_the_one_the_ingress_saw(tmp_path: Path, short_folder: Path) -> None:
    path = short_folder / "auth.sock"
    async with (
        serving(tmp_path, where=HTTPServerSettings(enabled=True, unix_socket=path)) as oauth,
        caller(transport=httpx.AsyncHTTPTransport(uds=str(path))) as http,
    ):
        form = {**LOGIN, "password": "wrong"}
        headers = {"x-forwarded-for": "203.0.113.1, 192.0.2.7"}
        await http.post("http://auth/oauth2/token", data=form, headers=headers)
        assert (await told(oauth.engine))[-1].address == "192.0.2.7"


async def test_a_database_that_does_not_answer_is_no_reason_to_give_up(tmp_path: Path, http: httpx.AsyncClient) -> None:
    async with serving(tmp_path, database_statement_timeout=0.3) as oauth:
        first = (await http.post(oauth.token, data=LOGIN)).json()
        form = {"grant_type": "refresh_token", "refresh_token": first["refresh_token"]}
        with closing(sqlite3.connect(tmp_path / "auth.db", isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            reply = await http.post(oauth.token, data=form)
            is_error(reply, 503, "temporarily_unavailable")
            assert reply.headers["retry-after"] == "2"

        assert (await http.post(oauth.token, data=form)).status_code == 200


async def test_a_failure_of_the_service_itself_gives_nothing_away(oauth: OAuth, http: httpx.AsyncClient) -> None:
    async with oauth.engine.begin() as connection:
        await connection.execute(text("DROP TABLE users"))
    with capture_logs() as lines:
        reply = await http.post(oauth.token, data=LOGIN)

    is_error(reply, 500, "server_error")
    assert "users" not in reply.text
    assert [line["event"] for line in lines] == ["request failed", "request"]
    assert reply.headers["x-correlation-id"] == lines[-1]["correlation_id"]


async def test_twenty_refreshes_at_once_have_one_successor(oauth: OAuth, http: httpx.AsyncClient) -> None:
    first = (await http.post(oauth.token, data=LOGIN)).json()
    form = {"grant_type": "refresh_token", "refresh_token": first["refresh_token"]}

    replies = await asyncio.gather(*(http.post(oauth.token, data=form) for _ in range(20)))

    assert {reply.status_code for reply in replies} == {200}
    assert len({reply.json()["refresh_token"] for reply in replies}) == 1


async def test_no_secret_gets_into_the_log(
    oauth: OAuth, http: httpx.AsyncClient, capsys: pytest.CaptureFixture[str]
) -> None:
    told = (await http.post(oauth.token, data=LOGIN, headers=basic())).json()
    form = {"grant_type": "refresh_token", "refresh_token": told["refresh_token"], "scope": "items:read"}
    await http.post(oauth.token, data=form, headers=basic())
    await http.post(oauth.token, data=form, headers=basic(secret="other secret"))
    await http.post(f"{oauth.token}?client_secret={quote_plus(SECRET)}", data=LOGIN)

    said = "".join(capsys.readouterr())
    assert "/oauth2/token" in said
    for secret in (PASSWORD, SECRET, quote_plus(SECRET), "other secret", told["access_token"], told["refresh_token"]):
        assert secret not in said


@pytest.mark.parametrize(
    ("content_types", "taken"),
    [
        ([FORM], True),
        ([f"{FORM};charset=UTF-8"], True),
        ([f'{FORM.upper()} ; Charset="utf-8"; x=y'], True),
        ([f"{FORM}; charset=iso-8859-1"], False),
        ([f"{FORM}; charset=utf-16"], False),
        ([FORM, FORM], True),
        (["application/json"], False),
        (["multipart/form-data; boundary=x"], False),
        (["text/plain"], False),
        ([], False),
        ([FORM, "application/json"], False),
        (["application/json", FORM], False),
    ],
)
async def test_what_is_read_is_a_form_in_utf_8(
    oauth: OAuth, http: httpx.AsyncClient, content_types: list[str], taken: bool
) -> None:
    """RFC 6749 appendix B."""
    headers = [*basic().items(), *(("content-type", each) for each in content_types)]
    reply = await http.post(oauth.token, content=b"grant_type=client_credentials", headers=headers)

    if taken:
        assert reply.status_code == 200
    else:
        is_error(reply, 400, "invalid_request")


async def test_who_has_no_secret_may_say_so_in_the_header(oauth: OAuth, http: httpx.AsyncClient) -> None:
    """As requests-oauthlib does it: the name of the client, and nothing after the colon."""
    first = await http.post(oauth.token, data=LOGIN, headers=basic("meshwork", ""))
    assert first.status_code == 200
    form = {"grant_type": "refresh_token", "refresh_token": first.json()["refresh_token"]}
    assert (await http.post(oauth.token, data=form, headers=basic("meshwork", ""))).status_code == 200
    for client_id, secret in (("billing", ""), ("meshwork", "x"), ("", "")):
        refused = await http.post(oauth.token, data=LOGIN, headers=basic(client_id, secret))
        is_error(refused, 401, "invalid_client")
