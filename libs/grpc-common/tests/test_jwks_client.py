"""An issuer that is slow, wrong, gone or flooded costs its callers as little as can be."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from grpc_common import jwks_client
from grpc_common.errors import ExternalServiceError, UnauthorizedError
from grpc_common.fixed_clock import FixedClock
from grpc_common.jwks_client import MAX_DOCUMENT, JWKSClient
from grpc_common.token_maker import TokenMaker
from grpc_common.token_verifier import Issuer, TokenVerifier

maker = TokenMaker(kid="v1")
successor = TokenMaker(kid="v2")
both = {"keys": [maker.jwk(), successor.jwk()]}


type Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]


class IssuerServer:
    """An HTTP server whose answer can be anything."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        self.answer: Answer = self.document(maker.jwks())
        self.url = ""
        self._server: asyncio.Server | None = None
        self._port = 0

    @staticmethod
    def raw(data: bytes) -> Answer:
        async def answer(writer: asyncio.StreamWriter) -> None:
            writer.write(data)
            await writer.drain()

        return answer

    @classmethod
    def body(cls, body: bytes, *headers: str, status: str = "200 OK") -> Answer:
        head = [f"HTTP/1.1 {status}", f"content-length: {len(body)}", "connection: close", *headers, "", ""]
        return cls.raw("\r\n".join(head).encode() + body)

    @classmethod
    def document(cls, jwks: Any, *headers: str) -> Answer:
        return cls.body(json.dumps(jwks).encode(), *headers)

    async def start_on(self, path: Path) -> None:
        self._server = await asyncio.start_unix_server(self._serve, path)

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}/.well-known/jwks.json"

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server.close_clients()
            await self._server.wait_closed()
            self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            self.requests.append(head.decode())
            await self.answer(writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def issuer_and_client(**arguments: Any) -> AsyncIterator[tuple[IssuerServer, JWKSClient, FixedClock]]:
    server, clock = IssuerServer(), FixedClock(1000.0)
    await server.start()
    try:
        async with JWKSClient(server.url, clock=clock, **arguments) as client:
            yield server, client, clock
    finally:
        await server.stop()


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits for new keys gets them, also where this process is held up."""
    monkeypatch.setattr(jwks_client, "PATIENCE", 30)


async def settled(client: JWKSClient) -> None:
    """Wait for the fetch in the background."""
    while client._flight is not None:
        await asyncio.wait([client._flight])


async def test_keys_fetched_early_are_there_when_the_issuer_is_gone():
    async with issuer_and_client() as (server, client, clock):
        await client.fetch_early()
        await server.stop()
        clock.advance(10_000)
        assert await client.find("v1", "ES256") is not None
        await client.fetch_early()
        assert len(server.requests) == 1


async def test_fetching_early_goes_on_until_there_are_keys():
    server = IssuerServer()
    await server.start()
    await server.stop()
    async with JWKSClient(server.url, cool_down=0.2) as client:
        early = asyncio.create_task(client.fetch_early())
        await asyncio.sleep(0.5)
        await server.start()
        async with asyncio.timeout(10):
            await early
        assert await client.find("v1", "ES256") is not None
    await server.stop()


async def test_who_is_too_early_asks_each_second_in_the_end(monkeypatch: pytest.MonkeyPatch):
    pauses: list[float] = []
    sleep = asyncio.sleep

    async def at_once(seconds: float) -> None:
        pauses.append(seconds)
        await sleep(0)

    async with issuer_and_client() as (server, client, _):
        server.answer = server.body(b"", status="503 Service Unavailable")
        monkeypatch.setattr(asyncio, "sleep", at_once)
        early = asyncio.create_task(client.fetch_early())
        async with asyncio.timeout(30):
            while len(pauses) < 8:
                await sleep(0.001)
        server.answer = server.document(maker.jwks())
        await early

    assert pauses[:8] == pytest.approx([0.1, 0.2, 0.4, 0.8, 1, 1, 1, 1])


async def test_a_token_need_not_wait_for_who_was_too_early():
    server = IssuerServer()
    await server.start()
    await server.stop()
    async with JWKSClient(server.url, clock=FixedClock(1000.0)) as client:
        early = asyncio.create_task(client.fetch_early())
        await asyncio.sleep(0)  # it begins
        await settled(client)
        await server.start()
        assert await client.find("v1", "ES256") is not None
        await early
    await server.stop()


async def test_one_fetch_serves_all_who_wait():
    async with issuer_and_client() as (server, client, _):
        found = await asyncio.gather(*(client.find("v1", "ES256") for _ in range(500)))
        assert len(server.requests) == 1
        assert len(set(map(id, found))) == 1
        await client.find("v1", "ES256")
        assert len(server.requests) == 1


async def test_ten_thousand_unknown_kids_are_one_fetch():
    async with issuer_and_client(cool_down=10.0) as (server, client, clock):
        await client.find("v1", "ES256")
        found = await asyncio.gather(*(client.find(f"kid-{number}", "ES256") for number in range(5_000)))
        for number in range(5_000):
            found.append(await client.find(f"late-{number}", "ES256"))
        assert set(found) == {None}
        assert len(server.requests) == 2
        clock.advance(9.99)
        await client.find("other", "ES256")
        assert len(server.requests) == 2
        clock.advance(0.01)
        await asyncio.gather(*(client.find(f"again-{number}", "ES256") for number in range(1_000)))
        assert len(server.requests) == 3


@given(steps=st.lists(st.tuples(st.floats(0, 30), st.integers(1, 20), st.booleans()), max_size=12))
@settings(max_examples=100, deadline=None)
def test_fetches_are_bounded_by_time_and_not_by_tokens(steps):
    """R4: whatever tokens come, and whether the issuer answers or not, it is asked at most once in a cool-down."""

    async def check() -> None:
        async with issuer_and_client(cool_down=10.0, default_ttl=3600, max_ttl=3600) as (server, client, clock):
            await client.find("v1", "ES256")
            begin = clock.now
            for pause, tokens, up in steps:
                clock.advance(pause)
                server.answer = server.document(maker.jwks()) if up else server.body(b"", status="503 Down")
                await asyncio.gather(*(client.find(f"made-up-{token}", "ES256") for token in range(tokens)))
                assert len(server.requests) <= 2 + (clock.now - begin) / 10.0

    asyncio.run(check())


async def test_a_known_kid_with_another_algorithm_asks_nobody():
    async with issuer_and_client() as (server, client, _):
        await client.find("v1", "ES256")
        assert await client.find("v1", "RS256") is None
        assert len(server.requests) == 1


async def test_a_new_key_is_found_by_the_first_token_that_needs_it():
    async with issuer_and_client() as (server, client, _):
        await client.find("v1", "ES256")
        server.answer = server.document(both)
        found = await asyncio.gather(*(client.find("v2", "ES256") for _ in range(100)))
        assert None not in found
        assert len(server.requests) == 2


async def test_keys_are_fetched_ahead_without_anybody_waiting():
    async with issuer_and_client() as (server, client, clock):
        server.answer = server.document(maker.jwks(), "cache-control: public, max-age=100")
        old = await client.find("v1", "ES256")
        clock.advance(79.9)
        await client.find("v1", "ES256")
        assert len(server.requests) == 1
        clock.advance(0.1)
        answered = asyncio.Event()

        async def slowly(writer: asyncio.StreamWriter) -> None:
            await answered.wait()
            await server.document(successor.jwks())(writer)

        server.answer = slowly
        assert await client.find("v1", "ES256") is old
        answered.set()
        await settled(client)
        assert await client.find("v2", "ES256")
        assert await client.find("v1", "ES256") is None
        assert old.retired


@pytest.mark.parametrize(
    ("cache_control", "lasts"),
    [
        ("max-age=100", 100),
        ("public, Max-Age=100, must-revalidate", 100),
        ('max-age="100"', 100),
        ("max-age=0", 30),
        ("no-store", 30),
        ("no-cache, max-age=900", 30),
        ("max-age=9999999999", 3600),
        ("max-age=99999999999999999999", 300),
        ("max-age=-1", 300),
        ("max-age=abc", 300),
        ("s-maxage=50", 300),
        ("", 300),
    ],
)
async def test_what_the_issuer_says_about_time_is_heard_within_bounds(cache_control, lasts):
    async with issuer_and_client() as (server, client, clock):
        server.answer = server.document(maker.jwks(), f"cache-control: {cache_control}")
        await client.find("v1", "ES256")
        clock.advance(lasts * 0.8 - 0.01)
        await client.find("v1", "ES256")
        await settled(client)
        assert len(server.requests) == 1
        clock.advance(0.02)
        await client.find("v1", "ES256")
        await settled(client)
        assert len(server.requests) == 2


@pytest.mark.usefixtures("patient")
async def test_keys_too_old_are_fetched_before_they_are_used():
    async with issuer_and_client() as (server, client, clock):
        await client.find("v1", "ES256")
        clock.advance(301)
        server.answer = server.document(successor.jwks())
        assert await client.find("v1", "ES256") is None
        assert len(server.requests) == 2


bad_answers = {
    "no JSON": IssuerServer.body(b"<html>"),
    "nothing": IssuerServer.body(b""),
    "no keys": IssuerServer.document({"keys": []}),
    "no useful keys": IssuerServer.document({"keys": [{"kty": "oct", "k": "AAAA", "kid": "v1"}]}),
    "keys twice": IssuerServer.body(b'{"keys": [], "keys": []}'),
    "an error": IssuerServer.body(json.dumps(maker.jwks()).encode(), status="500 Broken"),
    "a redirect": IssuerServer.body(b"", "location: /elsewhere", status="302 Found"),
    "no content": IssuerServer.raw(b"HTTP/1.1 204 No Content\r\n\r\n"),
    "too much": IssuerServer.body(json.dumps(maker.jwks()).encode() + b" " * MAX_DOCUMENT),
    "compressed": IssuerServer.document(maker.jwks(), "content-encoding: gzip"),
    "half of it": IssuerServer.raw(b'HTTP/1.1 200 OK\r\ncontent-length: 5000\r\n\r\n{"keys": ['),
    "no HTTP": IssuerServer.raw(b"220 smtp.test ESMTP\r\n"),
    "silence": IssuerServer.raw(b""),
}


@pytest.mark.parametrize("which", bad_answers)
async def test_a_bad_answer_leaves_the_keys_as_they_were(which):
    async with issuer_and_client() as (server, client, clock):
        good = server.answer
        key = await client.find("v1", "ES256")
        server.answer = bad_answers[which]
        clock.advance(301)
        for _ in range(3):
            assert await client.find("v1", "ES256") is key
        await settled(client)
        assert len(server.requests) == 2
        assert not key.retired
        server.answer = good
        clock.advance(1)
        await client.find("v1", "ES256")
        await settled(client)
        assert len(server.requests) == 3


@pytest.mark.parametrize("which", bad_answers)
async def test_with_nothing_else_a_bad_answer_is_unavailable_and_not_unauthenticated(which):
    async with issuer_and_client() as (server, client, clock):
        good, server.answer = server.answer, bad_answers[which]
        verifier = TokenVerifier([Issuer(maker.issuer, maker.audience, client)])
        for _ in range(100):
            with pytest.raises(ExternalServiceError, match="not available"):
                await verifier.verify(maker.token())
        assert len(server.requests) == 1, "an issuer in trouble is not hammered"
        server.answer = good
        clock.advance(1)
        assert await verifier.verify(maker.token())


async def test_an_issuer_that_is_gone_and_comes_back():
    async with issuer_and_client(cool_down=10.0) as (server, client, clock):
        await server.stop()
        tries = 0
        for _ in range(600):  # a minute in steps of 0.1 s
            before = client._failures
            with pytest.raises(ExternalServiceError):
                await client.find("v1", "ES256")
            tries += client._failures - before
            clock.advance(0.1)
        assert tries == 4 + 5, "after 1, 2, 4 and 8 seconds, then every 10"
        await server.start()
        clock.advance(10)
        assert await client.find("v1", "ES256")


async def test_keys_outlive_their_issuer_for_a_bounded_time():
    async with issuer_and_client(stale=1000.0) as (server, client, clock):
        key = await client.find("v1", "ES256")
        await server.stop()
        for _ in range(1299):
            clock.advance(1)
            assert await client.find("v1", "ES256") is key
        await settled(client)
        clock.advance(1)
        with pytest.raises(ExternalServiceError):
            await client.find("v1", "ES256")
        await server.start()
        clock.advance(10)
        assert await client.find("v1", "ES256")


async def test_an_issuer_that_hangs_does_not_hold_up_those_whose_keys_are_known():
    async with issuer_and_client(timeout=30) as (server, client, clock):
        key = await client.find("v1", "ES256")
        asked, hangs = asyncio.Event(), asyncio.Event()

        async def hang(writer: asyncio.StreamWriter) -> None:
            asked.set()
            await hangs.wait()

        server.answer = hang
        clock.advance(301)
        async with asyncio.timeout(10):
            assert set(await asyncio.gather(*(client.find("v1", "ES256") for _ in range(50)))) == {key}
            clock.advance(1)
            assert await client.find("v1", "ES256") is key
            await asked.wait()
        assert len(server.requests) == 2
        hangs.set()


@pytest.mark.usefixtures("patient")
async def test_a_slow_issuer_holds_up_one_wave_and_no_more():
    async with issuer_and_client() as (server, client, clock):
        key = await client.find("v1", "ES256")
        client._timeout = 0.2

        async def drip(writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n")
            while True:
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.05)

        server.answer = drip
        clock.advance(301)
        assert set(await asyncio.gather(*(client.find("v1", "ES256") for _ in range(50)))) == {key}
        assert client._failures == 1, "they waited until one fetch had failed"
        clock.advance(10)
        assert await client.find("v1", "ES256") is key
        assert client._flight is not None, "and nobody waits for the next one"
        await settled(client)
        assert client._failures == 2


async def test_a_caller_that_gives_up_leaves_the_fetch_to_the_others():
    async with issuer_and_client() as (server, client, _):
        good, asked, go = server.answer, asyncio.Event(), asyncio.Event()

        async def hold(writer: asyncio.StreamWriter) -> None:
            asked.set()
            await go.wait()
            await good(writer)

        server.answer = hold
        first = asyncio.create_task(client.find("v1", "ES256"))
        await asked.wait()
        second = asyncio.create_task(client.find("v1", "ES256"))
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.wait([first])
        assert first.cancelled()
        go.set()
        assert await second
        assert len(server.requests) == 1


async def test_closing_leaves_no_task_behind():
    async with issuer_and_client(timeout=60) as (server, client, _):
        asked = asyncio.Event()

        async def never(writer: asyncio.StreamWriter) -> None:
            asked.set()
            await asyncio.sleep(60)

        server.answer = never
        waiting = asyncio.create_task(client.find("v1", "ES256"))
        await asked.wait()
        flight = client._flight
        async with asyncio.timeout(20):
            await client.aclose()
        assert flight.done()
        with pytest.raises(ExternalServiceError):
            await waiting


async def test_a_fetch_is_no_part_of_the_call_that_caused_it():
    budget: ContextVar[str] = ContextVar("budget", default="none")
    async with issuer_and_client() as (_, client, _):
        budget.set("of the call")
        task = asyncio.create_task(client.find("v1", "ES256"))
        await asyncio.sleep(0)
        assert client._flight.get_context().get(budget) is None
        await task


@pytest.mark.usefixtures("patient")
async def test_rotation_under_load_refuses_no_token():
    clock = FixedClock()
    issuers = [TokenMaker(kid=f"v{number}", clock=clock) for number in range(5)]
    async with issuer_and_client() as (server, client, mono):
        verifier = TokenVerifier([Issuer(issuers[0].issuer, issuers[0].audience, client)], clock=clock)
        for old, new in pairwise(issuers):
            server.answer = server.document({"keys": [old.jwk(), new.jwk()]})
            tokens = [maker.token(str(number)) for number in range(20) for maker in (old, new)]
            assert len(await asyncio.gather(*map(verifier.verify, tokens))) == 40
            mono.advance(60)
        server.answer = server.document(issuers[-1].jwks())
        mono.advance(300)
        withdrawn = issuers[-2].token("19")
        with pytest.raises(UnauthorizedError):
            await verifier.verify(withdrawn)


@pytest.mark.parametrize("kid", ["another-v1", maker.kid])
async def test_a_key_that_was_withdrawn_or_replaced_under_its_name_takes_its_tokens_with_it(kid):
    successor = TokenMaker(kid=kid)
    async with issuer_and_client() as (server, client, clock):
        verifier, token = TokenVerifier([Issuer(maker.issuer, maker.audience, client)]), maker.token()
        await verifier.verify(token)
        server.answer = server.document(successor.jwks())
        clock.advance(301)
        await verifier.verify(successor.token())
        assert verifier.cached(token) is None
        with pytest.raises(UnauthorizedError):
            await verifier.verify(token)


@pytest.mark.parametrize(
    "url",
    [
        "http://issuer.test/jwks.json",
        "http://127.0.0.1.issuer.test/jwks.json",
        "http://localhost.issuer.test/jwks.json",
        "http://10.0.0.1/jwks.json",
        "https://user:secret@issuer.test/jwks.json",
        "file:///etc/jwks.json",
        "ftp://issuer.test/jwks.json",
        "issuer.test/jwks.json",
        "https:///jwks.json",
        "https://[::1/jwks.json",
        "",
    ],
)
def test_an_address_that_cannot_be_trusted_is_refused(url):
    with pytest.raises(ValueError, match="the JWKS URL") as caught:
        JWKSClient(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["https://issuer.test/j", "http://localhost/j", "http://127.0.0.1:1/j", "http://[::1]:1/j"]
)
async def test_an_address_that_can_be_trusted(url):
    await JWKSClient(url).aclose()
    await JWKSClient("http://auth.mesh.test/j", plaintext="behind-mesh").aclose()


async def test_a_unix_socket_leads_to_the_issuer(tmp_path, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    server = IssuerServer()
    await server.start_on(tmp_path / "out.sock")
    try:
        async with JWKSClient("http://auth/.well-known/jwks.json", uds=tmp_path / "out.sock") as client:
            assert await client.find("v1", "ES256") is not None
        (request,) = server.requests
        assert request.startswith("GET /.well-known/jwks.json HTTP/1.1\r\n")
        assert "\r\nhost: auth\r\n" in request.lower()
    finally:
        await server.stop()


async def test_a_unix_socket_that_is_gone_leaves_the_keys(tmp_path):
    clock, server = FixedClock(1000.0), IssuerServer()
    await server.start_on(tmp_path / "out.sock")
    async with JWKSClient("http://auth/j", uds=tmp_path / "out.sock", clock=clock) as client:
        await client.find("v1", "ES256")
        await server.stop()
        clock.advance(301)
        assert await client.find("v1", "ES256") is not None
        await settled(client)
        assert await client.find("v2", "ES256") is None
        await server.start_on(tmp_path / "out.sock")
        server.answer = server.document(both)
        clock.advance(60)
        assert await client.find("v2", "ES256") is not None
        await server.stop()


@given(kid=st.text(max_size=60), algorithm=st.sampled_from(["ES256", "RS256", "none"]))
@example("../../../../etc/passwd", "ES256")
@example("v1\r\nX-Evil: 1", "ES256")
@example("http://evil.test/jwks.json", "ES256")
@settings(max_examples=100, deadline=None)
def test_a_kid_is_a_name_and_nothing_else(kid, algorithm):
    """R4: no kid makes its way into a request."""

    async def check() -> None:
        async with issuer_and_client() as (server, client, _):
            await client.find("v1", "ES256")
            found = await client.find(kid, algorithm)
            assert found is None or (kid, algorithm) == ("v1", "ES256")
            assert len(set(server.requests)) == 1

    asyncio.run(check())


async def test_the_check_of_health_keeps_the_keys_of_a_service_that_nobody_calls():
    async with issuer_and_client(default_ttl=100, stale=1000) as (server, client, clock):
        assert not await client.usable()
        assert not server.requests  # who has none fetches them early
        await client.fetch_early()
        for _ in range(20):
            clock.advance(90)
            assert await client.usable()
            await settled(client)
        assert len(server.requests) == 21
        await server.stop()
        clock.advance(1009)
        assert await client.usable()
        await settled(client)
        clock.advance(1)
        assert await client.usable()
        clock.advance(90)
        assert not await client.usable()
        await settled(client)
        await server.start()
        clock.advance(100)
        assert not await client.usable()
        await settled(client)
        assert await client.usable()


async def test_a_key_that_was_withdrawn_counts_no_more_where_all_tokens_are_known():
    async with issuer_and_client(default_ttl=100) as (server, client, clock):
        verifier = TokenVerifier([Issuer(maker.issuer, maker.audience, client)])
        token = maker.token()
        await verifier.verify(token)
        server.answer = server.document(successor.jwks())
        clock.advance(90)
        assert await client.usable()
        await settled(client)
        with pytest.raises(UnauthorizedError):
            await verifier.verify(token)
