"""OAuth's endpoints and whatever anybody may send them."""

from base64 import b64encode
from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path
from urllib.parse import quote_plus, urlencode

import httpx
import pytest
import pytest_asyncio
from fastapi import Request
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from oauth_server import PASSWORD, SECRET, OAuth, caller, serving
from structlog.testing import capture_logs

from auth.oauth.client import read_proof
from auth.oauth.form import parsed
from grpc_common.http_settings import HTTPServerSettings

MARK = "hunter2"
"""Stands in for a secret: it is in everything that is sent, and in nothing that comes back or is logged."""

PEOPLE = count()
"""Each request is somebody else's: nobody asks too often."""

FORM = "application/x-www-form-urlencoded"
NAMES = st.sampled_from(
    [
        *("grant_type", "client_id", "client_secret", "scope", "refresh_token", "username", "password"),
        *("token", "token_type_hint", "", "x"),
    ]
)
VALUES = st.one_of(
    st.sampled_from(
        [
            *("client_credentials", "refresh_token", "password", "billing", "meshwork", "alice", "items:read"),
            *(
                SECRET,
                PASSWORD,
                "",
                "\x00",
                "\ud7ff\uffff",
                "mrt_" + "0" * 32 + ".0." + "A" * 43,
                "eyJhbGciOiJub25lIn0.e30.",
            ),
        ]
    ),
    st.text(max_size=40).map(MARK.__add__),
)
FORMS = st.one_of(
    st.lists(st.tuples(NAMES, VALUES), max_size=8).map(lambda pairs: urlencode(pairs).encode()),
    st.lists(st.tuples(NAMES, st.binary(max_size=20)), max_size=4).map(
        lambda pairs: b"&".join(name.encode() + b"=" + MARK.encode() + value for name, value in pairs)
    ),
    st.binary(max_size=200),
)
VISIBLE = st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters=map(chr, range(0x7F, 0xA0)))
PROOFS = st.one_of(
    st.just(f"Basic {b64encode(b'watcher:wrong').decode()}"),
    st.binary(max_size=40).map(lambda raw: f"Basic {b64encode(MARK.encode() + raw).decode()}"),
    st.text(VISIBLE, max_size=40).map(f"Basic {MARK}".__add__),
    st.text(VISIBLE, max_size=40).map(f"{MARK} ".__add__),
)
HEADERS = st.lists(PROOFS, max_size=2).map(
    lambda proofs: [(b"authorization", proof.encode("latin-1").strip()) for proof in proofs]
)
KINDS = st.one_of(st.just(FORM), st.sampled_from(["", "application/json", "text/plain; x", ";", "a/b/c"]))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def oauth(tmp_path_factory) -> AsyncIterator[OAuth]:
    folder: Path = tmp_path_factory.mktemp("oauth")
    path = tmp_path_factory.mktemp("s") / "s"
    async with serving(folder, where=HTTPServerSettings(enabled=True, unix_socket=path)) as oauth:
        yield oauth


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def http(oauth: OAuth) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.AsyncHTTPTransport(uds=oauth.url.removeprefix("unix:"))
    async with caller(transport=transport, base_url="http://auth") as http:
        yield http


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("path", ["token", "revoke", "introspect"])
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=FORMS, headers=HEADERS, kind=KINDS)
@example(content=b"grant_type=client_credentials&grant_type=x", headers=[], kind=FORM)
@example(content=b"token=%00", headers=[], kind=FORM)
async def test_wild_requests_get_a_clear_answer(
    oauth: OAuth, http: httpx.AsyncClient, path: str, content: bytes, headers: list[tuple[bytes, bytes]], kind: str
) -> None:
    """Whatever the form and the proof: no failure of the server's own, no secret in an answer or in a log line."""
    with capture_logs() as lines:
        sent = [
            *headers,
            (b"content-type", kind.encode()),
            (b"x-forwarded-for", f"192.0.2.{next(PEOPLE) % 256}".encode()),
        ]
        reply = await http.post(f"/oauth2/{path}", content=content, headers=sent)

    assert reply.status_code in {200, 400, 401, 403}, reply.text
    assert reply.headers["cache-control"] == "no-store"
    if reply.status_code != 200:
        assert reply.json().keys() == {"error", "error_description"}
    assert reply.status_code != 401 or reply.headers["www-authenticate"].startswith("Basic ")
    for secret in (MARK, SECRET, PASSWORD):
        assert secret not in f"{reply.headers} {reply.text}"
        assert secret not in str(lines)
    assert [line for line in lines if line["log_level"] == "error"] == []


@settings(max_examples=200)
@given(
    client_id=st.from_regex(r"[A-Za-z0-9._-]{1,64}", fullmatch=True),
    secret=st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=256),
    in_body=st.booleans(),
)
@example(client_id="billing", secret="a:b+c%20 d&e=f", in_body=False)
def test_every_secret_arrives_as_it_was_sent(client_id: str, secret: str, in_body: bool) -> None:
    """Encoded as RFC 6749 says, in the header (§2.3.1) or in the body (appendix B)."""
    sent = {"client_id": client_id, "client_secret": secret} if in_body else {}
    proof = b64encode(f"{quote_plus(client_id)}:{quote_plus(secret)}".encode())
    headers = [] if in_body else [(b"authorization", b"basic " + proof)]

    read = read_proof(Request({"type": "http", "headers": headers}), parsed(urlencode(sent).encode()))

    assert read is not None
    assert (read.client_id, read.secret.get_secret_value()) == (client_id, secret)
