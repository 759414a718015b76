"""Access tokens: every service takes them as they are, also while keys rotate and while the signer is away."""

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import hvac
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auth.access_token import AccessTokens, Grant
from auth.file_signer import FileSigner
from auth.key_ring import KeyRing
from auth.key_schedule import KeySchedule
from auth.signer import Algorithm
from auth.transit_signer import TransitSigner
from grpc_common.errors import ExternalServiceError, UnauthorizedError
from grpc_common.fixed_clock import FixedClock
from grpc_common.jwks import StaticJWKS
from grpc_common.token_verifier import Issuer, TokenVerifier
from localmesh.parts.openbao import OpenBao
from signers import ALGORITHMS, OpenSigner, numbers_of, signers_of

ISSUER, AUDIENCE = "https://auth.meshwork.local", "meshwork"
ALICE = Grant("alice", "web", frozenset({"editor"}), frozenset({"items:read"}))
SCHEDULE = KeySchedule(period=10_000, ahead=100, lifetime=600, leeway=120)

NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=40)
SCOPES = st.text(
    st.sampled_from([chr(code) for code in range(0x21, 0x7F) if chr(code) not in '"\\']), min_size=1, max_size=20
)


def tokens_of(ring: KeyRing, clock: FixedClock, lifetime: int = 600) -> AccessTokens:
    return AccessTokens(ring, issuer=ISSUER, audience=AUDIENCE, lifetime=lifetime, clock=clock)


async def verifier_of(ring: KeyRing, clock: FixedClock, algorithm: Algorithm = "ES256", **wanted) -> TokenVerifier:
    keys = StaticJWKS(json.loads(json.dumps(await ring.jwk_set())))
    issuer = Issuer(wanted.get("issuer", ISSUER), wanted.get("audience", AUDIENCE), keys, frozenset({algorithm}))
    return TokenVerifier([issuer], clock=clock)


@asynccontextmanager
async def ring_of(path: Path, clock: FixedClock, algorithm: Algorithm = "ES256") -> AsyncIterator[KeyRing]:
    async with FileSigner(path, "dev", algorithm, clock=clock) as signer:
        yield KeyRing(signer, SCHEDULE, refresh=10, clock=clock)


@pytest.fixture(params=["transit", "file"])
def open_signer(request: pytest.FixtureRequest, tmp_path: Path, vault: hvac.Client) -> OpenSigner:
    return signers_of(request.param, tmp_path, vault)


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(time.time() + 5)


def part(token: str, number: int) -> dict:
    text = token.split(".")[number]
    return json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_services_take_a_token_of_either_signer(
    open_signer: OpenSigner, algorithm: Algorithm, clock: FixedClock
) -> None:
    """P4."""
    async with open_signer(algorithm) as signer:
        ring = KeyRing(signer, SCHEDULE, refresh=10, clock=clock)
        issued = await tokens_of(ring, clock).issue(ALICE)

        principal = await (await verifier_of(ring, clock, algorithm)).verify(issued.token.get_secret_value())
        (key,) = await signer.versions()

    assert (principal.subject, principal.client_id) == ("alice", "web")
    assert (principal.roles, principal.scopes) == ({"editor"}, {"items:read"})
    assert part(issued.token.get_secret_value(), 0) == {"alg": algorithm, "kid": key.kid, "typ": "at+jwt"}


async def test_a_token_has_the_claims_of_rfc_9068_and_no_others(tmp_path: Path, clock: FixedClock) -> None:
    async with ring_of(tmp_path / "keys", clock) as ring:
        issued = await tokens_of(ring, clock).issue(ALICE)

    assert part(issued.token.get_secret_value(), 1) == {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "alice",
        "client_id": "web",
        "iat": int(clock.now),
        "nbf": int(clock.now),
        "exp": int(clock.now) + 600,
        "jti": issued.id,
        "roles": ["editor"],
        "scope": "items:read",
    }
    assert issued.expires_at == int(clock.now) + 600


@settings(max_examples=150, deadline=None)
@given(
    subject=NAMES,
    client_id=NAMES,
    roles=st.frozensets(NAMES, max_size=8),
    scopes=st.frozensets(SCOPES, max_size=8),
    lifetime=st.integers(1, 900),
    skew=st.integers(-59, 59),
)
async def test_whatever_is_granted_every_verifier_reads_it_as_it_is(
    tmp_path_factory, subject, client_id, roles, scopes, lifetime, skew
) -> None:
    """**Feature: grpc-microservices-support, Property 4: JWT Authentication Validation**"""
    clock = FixedClock()
    path = tmp_path_factory.getbasetemp() / "any-keys"
    async with ring_of(path, clock) as ring:
        issued = await tokens_of(ring, clock, lifetime).issue(Grant(subject, client_id, roles, scopes))

        verifier = await verifier_of(ring, FixedClock(clock.now + skew))
        principal = await verifier.verify(issued.token.get_secret_value())

    assert (principal.subject, principal.client_id, principal.roles, principal.scopes) == (
        subject,
        client_id,
        roles,
        scopes,
    )
    assert (principal.token_id, principal.issuer) == (issued.id, ISSUER)


@settings(max_examples=300, deadline=None)
@given(data=st.data())
async def test_a_token_with_any_character_changed_is_taken_by_nobody(tmp_path_factory, data) -> None:
    """**Feature: grpc-microservices-support, Property 4: JWT Authentication Validation**"""
    clock = FixedClock()
    async with ring_of(tmp_path_factory.getbasetemp() / "any-keys", clock) as ring:
        token = (await tokens_of(ring, clock).issue(ALICE)).token.get_secret_value()
        verifier = await verifier_of(ring, clock)
        place = data.draw(st.integers(0, len(token) - 1))
        letter = data.draw(st.characters(codec="ascii").filter(lambda letter: letter != token[place]))

        with pytest.raises(UnauthorizedError):
            await verifier.verify(token[:place] + letter + token[place + 1 :])


async def test_a_token_is_for_its_audience_its_issuer_and_its_time(tmp_path: Path, clock: FixedClock) -> None:
    async with ring_of(tmp_path / "keys", clock) as ring:
        token = (await tokens_of(ring, clock).issue(ALICE)).token.get_secret_value()
        for wrong in ({"audience": "other"}, {"issuer": "https://other.test"}):
            with pytest.raises(UnauthorizedError):
                await (await verifier_of(ring, clock, **wrong)).verify(token)

        verifier = await verifier_of(ring, clock)
        clock.advance(600 + 60)
        with pytest.raises(UnauthorizedError, match="expired"):
            await verifier.verify(token)


async def test_no_two_tokens_have_the_same_id(tmp_path: Path, clock: FixedClock) -> None:
    async with ring_of(tmp_path / "keys", clock) as ring:
        issued = await asyncio.gather(*(tokens_of(ring, clock).issue(ALICE) for _ in range(100)))

    assert len({each.id for each in issued}) == 100


async def test_a_token_is_not_shown(tmp_path: Path, clock: FixedClock) -> None:
    async with ring_of(tmp_path / "keys", clock) as ring:
        issued = await tokens_of(ring, clock).issue(ALICE)

    assert "eyJ" not in f"{issued!r} {issued}"


async def test_a_token_that_verifiers_would_find_too_long_is_not_issued(tmp_path: Path, clock: FixedClock) -> None:
    roles = frozenset(f"role-{number:060}" for number in range(100))
    async with ring_of(tmp_path / "keys", clock) as ring:
        with pytest.raises(ValueError, match="give fewer roles"):
            await tokens_of(ring, clock).issue(Grant("alice", "web", roles))


@pytest.mark.parametrize("lifetime", [0, -1, 901])
async def test_no_token_lives_longer_than_a_quarter_of_an_hour(
    tmp_path: Path, clock: FixedClock, lifetime: int
) -> None:
    async with ring_of(tmp_path / "keys", clock) as ring:
        with pytest.raises(ValueError, match="1 to 900 seconds"):
            tokens_of(ring, clock, lifetime)


@pytest.mark.parametrize(
    "wrong",
    [
        {"subject": ""},
        {"client_id": ""},
        {"roles": frozenset({""})},
        {"subject": "\ud800"},
        {"scopes": frozenset({"two words"})},
        {"scopes": frozenset({""})},
        {"scopes": frozenset({"é"})},
    ],
)
def test_a_grant_no_verifier_would_take_is_refused(wrong: dict) -> None:
    with pytest.raises(ValueError):
        Grant(**{"subject": "alice", "client_id": "web", **wrong})


class TestRotation:
    async def test_tokens_are_taken_all_the_way_through(self, tmp_path: Path, clock: FixedClock) -> None:
        async with ring_of(tmp_path / "keys", clock) as ring:
            tokens = tokens_of(ring, clock)
            alive: list[tuple[int, str]] = []
            kids = set()
            for step in range(120):  # half an hour, and two rotations in it
                if step in {10, 60}:
                    await ring.rotate()
                await ring.upkeep()
                issued = await tokens.issue(ALICE)
                alive.append((issued.expires_at, issued.token.get_secret_value()))
                alive = [(until, token) for until, token in alive if clock.now < until]
                kids |= {part(token, 0)["kid"] for _, token in alive}
                verifier = await verifier_of(ring, clock)
                for _, token in alive:
                    await verifier.verify(token)
                clock.advance(15)

        assert len(kids) == 3

    async def test_a_verifier_that_read_the_keys_before_knows_the_next_one(
        self, tmp_path: Path, clock: FixedClock
    ) -> None:
        async with ring_of(tmp_path / "keys", clock) as ring:
            kid, _ = await ring.rotate()
            verifier = await verifier_of(ring, clock)
            clock.advance(SCHEDULE.ahead)
            token = (await tokens_of(ring, clock).issue(ALICE)).token.get_secret_value()

            assert part(token, 0)["kid"] == kid
            assert (await verifier.verify(token)).subject == "alice"

    async def test_keys_nothing_alive_was_signed_with_are_destroyed(self, tmp_path: Path, clock: FixedClock) -> None:
        async with FileSigner(tmp_path / "keys", "dev", clock=clock) as signer:
            ring = KeyRing(signer, SCHEDULE, refresh=10, clock=clock)
            kid, _ = await ring.rotate()
            clock.advance(2 * SCHEDULE.ahead + SCHEDULE.lifetime + SCHEDULE.leeway - 1)
            await ring.upkeep()
            assert [each.version for each in await signer.versions()] == [1, 2]

            clock.advance(1)
            await ring.upkeep()
            assert [each.version for each in await signer.versions()] == [2]
            assert [key["kid"] for key in (await ring.jwk_set())["keys"]] == [kid]

    async def test_a_key_is_made_when_it_is_due(self, tmp_path: Path, clock: FixedClock) -> None:
        async with FileSigner(tmp_path / "keys", "dev", clock=clock) as signer:
            ring = KeyRing(signer, SCHEDULE, refresh=10, clock=clock)
            for wait, count in ((SCHEDULE.period - 1, 1), (1, 2), (1, 2)):
                clock.advance(wait)
                await ring.upkeep()
                assert len(await signer.versions()) == count

    async def test_another_replicas_rotation_is_seen_before_its_key_signs(
        self, vault: hvac.Client, clock: FixedClock
    ) -> None:
        async with TransitSigner(vault, "shared") as ours, TransitSigner(vault, "shared") as theirs:
            ring = KeyRing(ours, SCHEDULE, refresh=10, clock=clock)
            await ring.jwk_set()
            await KeyRing(theirs, SCHEDULE, refresh=10, clock=clock).rotate()

            clock.advance(10)
            assert [key["kid"] for key in (await ring.jwk_set())["keys"]] == list(await numbers_of(theirs))

    def test_a_ring_that_reads_too_rarely_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="must be published for longer"):
            KeyRing(FileSigner(tmp_path / "keys", "dev"), SCHEDULE, refresh=SCHEDULE.ahead)


class TestOutage:
    async def test_keys_go_on_being_published_and_it_mends_by_itself(
        self, own_openbao: OpenBao, clock: FixedClock
    ) -> None:
        client = await asyncio.to_thread(own_openbao.client)
        async with TransitSigner(client, "outage") as signer:
            ring = KeyRing(signer, SCHEDULE, refresh=10, clock=clock)
            token = (await tokens_of(ring, clock).issue(ALICE)).token.get_secret_value()
            before = await ring.jwk_set()
            await own_openbao.stop()
            clock.advance(50)

            assert await ring.jwk_set() == before
            assert (await (await verifier_of(ring, clock)).verify(token)).subject == "alice"
            for ask in (lambda: tokens_of(ring, clock).issue(ALICE), ring.answers, ring.rotate):
                with pytest.raises(ExternalServiceError):
                    await ask()

            await own_openbao.start()
            await asyncio.to_thread(own_openbao.client)
            clock.advance(2)
            assert await ring.answers()
            assert await tokens_of(ring, clock).issue(ALICE)

    async def test_who_knows_no_keys_asks_once_for_all_and_then_waits(self, clock: FixedClock) -> None:
        asked = 0

        async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal asked
            asked += 1
            writer.close()

        server = await asyncio.start_server(refuse, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with server:
            ring = KeyRing(TransitSigner(hvac.Client(url=url, token="x"), "any"), SCHEDULE, refresh=10, clock=clock)
            answers = await asyncio.gather(*(ring.jwk_set() for _ in range(100)), return_exceptions=True)
            assert asked == 1
            clock.advance(2)
            with pytest.raises(ExternalServiceError):
                await ring.jwk_set()

        assert asked == 2
        assert {type(answer) for answer in answers} == {ExternalServiceError}

    async def test_who_has_not_heard_of_the_keys_for_long_does_not_sign(
        self, tmp_path: Path, clock: FixedClock
    ) -> None:
        async with FileSigner(tmp_path / "keys", "dev", clock=clock) as signer:
            deaf = Deaf(signer)
            ring = KeyRing(deaf, SCHEDULE, refresh=10, clock=clock)
            await ring.jwk_set()
            deaf.hears = False
            clock.advance(SCHEDULE.ahead - 1)
            assert await tokens_of(ring, clock).issue(ALICE)

            clock.advance(1)
            with pytest.raises(ExternalServiceError):
                await tokens_of(ring, clock).issue(ALICE)


class Deaf:
    """A signer that goes on signing when it can no longer say which versions there are."""

    def __init__(self, signer: FileSigner) -> None:
        self._signer = signer
        self.hears = True

    def __getattr__(self, name: str):
        return getattr(self._signer, name)

    async def versions(self):
        if not self.hears:
            raise ExternalServiceError("not just now")
        return await self._signer.versions()
