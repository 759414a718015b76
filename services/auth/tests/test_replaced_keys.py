"""A key that was replaced under its name: name and version are those of another key, and nobody is misled by that."""

import asyncio
import json
import time
from base64 import urlsafe_b64decode
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import hvac
import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from auth.access_token import AccessTokens, Grant
from auth.file_signer import FileSigner
from auth.key_ring import AGAIN, KeyRing
from auth.key_schedule import KeySchedule
from auth.ring_keys import RingKeys
from auth.signer import PublicKey, Signer, SignerError
from auth.thumbprint import thumbprint
from auth.transit_signer import TransitSigner
from grpc_common.errors import ExternalServiceError, UnauthorizedError
from grpc_common.fixed_clock import FixedClock
from grpc_common.jwks import StaticJWKS
from grpc_common.token_verifier import Issuer, TokenVerifier

ISSUER, AUDIENCE = "https://auth.test", "meshwork"
SCHEDULE = KeySchedule(period=10_000, ahead=100, lifetime=600, leeway=120)
ALICE = Grant("alice", "web")


def destroy_key(vault: hvac.Client, name: str) -> None:
    vault.secrets.transit.update_key_configuration(name, deletion_allowed=True)
    vault.secrets.transit.delete_key(name)


@dataclass(frozen=True, slots=True)
class Replaced:
    """Two replicas of a signer, and what replaces their key by a new one with as many versions."""

    signer: Signer
    other: Signer
    replace: Callable[[], Awaitable[None]]
    destroy: Callable[[], Awaitable[None]]
    clock: FixedClock

    def ring(self, signer: Signer | None = None) -> KeyRing:
        return KeyRing(signer or self.signer, SCHEDULE, refresh=10, clock=self.clock)


@pytest_asyncio.fixture(params=["file", "transit"])
async def key(request: pytest.FixtureRequest, tmp_path: Path, vault: hvac.Client) -> AsyncIterator[Replaced]:
    clock, path, name = FixedClock(time.time()), tmp_path / "keys.json", f"replaced-{id(tmp_path)}"
    async with AsyncExitStack() as stack:

        async def opened() -> Signer:
            if request.param == "file":
                return await stack.enter_async_context(FileSigner(path, name, clock=clock))
            return await stack.enter_async_context(TransitSigner(vault, name, timeout=20))

        async def destroy() -> None:
            if request.param == "file":
                path.unlink()
            else:
                await asyncio.to_thread(destroy_key, vault, name)

        async def replace() -> None:
            await destroy()
            await opened()

        yield Replaced(await opened(), await opened(), replace, destroy, clock)


def tokens_of(ring: KeyRing, clock: FixedClock) -> AccessTokens:
    return AccessTokens(ring, issuer=ISSUER, audience=AUDIENCE, lifetime=600, clock=clock)


def verifier_of(ring: KeyRing, clock: FixedClock) -> TokenVerifier:
    return TokenVerifier([Issuer(ISSUER, AUDIENCE, RingKeys(ring))], clock=clock)


async def issue(ring: KeyRing, clock: FixedClock) -> str:
    return (await tokens_of(ring, clock).issue(ALICE)).token.get_secret_value()


def kid_of(token: str) -> str:
    header, *_ = token.split(".")
    return json.loads(urlsafe_b64decode(header + "=="))["kid"]


async def test_what_is_signed_from_then_on_is_what_is_published(key: Replaced) -> None:
    ring = key.ring()
    before = await issue(ring, key.clock)
    await key.replace()
    if isinstance(key.signer, FileSigner):
        key.clock.advance(10)  # a file is not asked for a signature, and so is looked at when it is time to

    token = await issue(ring, key.clock)

    published = await ring.jwk_set()
    assert [each["kid"] for each in published["keys"]] == [kid_of(token)] != [kid_of(before)]
    elsewhere = TokenVerifier([Issuer(ISSUER, AUDIENCE, StaticJWKS(published))], clock=key.clock)
    assert (await elsewhere.verify(token)).subject == "alice"
    assert (await verifier_of(ring, key.clock).verify(token)).subject == "alice"
    with pytest.raises(UnauthorizedError):
        await elsewhere.verify(before)


async def test_a_token_of_the_destroyed_key_counts_no_more_where_it_was_known(key: Replaced) -> None:
    ring = key.ring()
    verifier, token = verifier_of(ring, key.clock), await issue(ring, key.clock)
    await verifier.verify(token)
    await key.replace()
    key.clock.advance(10)

    await ring.answers()  # as the health of the service asks

    assert verifier.cached(token) is None
    with pytest.raises(UnauthorizedError):
        await verifier.verify(token)


async def test_another_replica_takes_the_tokens_of_the_new_key_at_once(key: Replaced) -> None:
    ring, other = key.ring(), key.ring(key.other)
    verifier = verifier_of(other, key.clock)
    await verifier.verify(await issue(ring, key.clock))
    await key.replace()
    await ring.answers()

    assert (await verifier.verify(await issue(ring, key.clock))).subject == "alice"


class Counted(FileSigner):
    """A signer that counts how often it is asked for its keys."""

    asked = 0

    async def versions(self) -> Sequence[PublicKey]:
        self.asked += 1
        return await super().versions()


async def test_unknown_keys_have_the_signer_asked_once_in_a_while(tmp_path: Path, clock: FixedClock) -> None:
    async with Counted(tmp_path / "keys", "dev", clock=clock) as signer:
        keys = RingKeys(KeyRing(signer, SCHEDULE, refresh=60, clock=clock))
        assert await keys.find("made-up", "ES256") is None
        signer.asked = 0
        for _ in range(5):
            assert await keys.find("made-up", "ES256") is None
        assert signer.asked == 0
        clock.advance(AGAIN)
        for _ in range(5):
            assert await keys.find("made-up", "ES256") is None
        assert signer.asked == 1


async def test_rotating_works_afterwards(key: Replaced) -> None:
    ring = key.ring()
    await issue(ring, key.clock)
    await key.replace()

    kid, signs_from = await ring.rotate()

    published = [each["kid"] for each in (await ring.jwk_set())["keys"]]
    assert published[-1] == kid
    assert [each.kid for each in await key.signer.versions()] == published
    assert len(published) == 2
    key.clock.now = signs_from + SCHEDULE.ahead
    assert kid_of(await issue(ring, key.clock)) == kid


async def test_a_key_with_fewer_versions_is_not_asked_for_those_of_the_one_before(key: Replaced) -> None:
    ring = key.ring()
    await ring.rotate()
    key.clock.advance(2 * SCHEDULE.ahead)
    before = await issue(ring, key.clock)
    await key.replace()
    if isinstance(key.signer, FileSigner):
        key.clock.advance(10)

    assert kid_of(await issue(ring, key.clock)) != kid_of(before)


async def test_a_destroyed_key_is_made_anew(key: Replaced) -> None:
    ring = key.ring()
    before = await issue(ring, key.clock)
    await key.destroy()
    key.clock.advance(10)

    with capture_logs() as lines:
        await ring.upkeep()

    assert kid_of(await issue(ring, key.clock)) != kid_of(before)
    (line,) = [each for each in lines if each["event"] == "signing keys are gone: what they signed is refused"]
    assert (line["kids"], line["log_level"]) == ([kid_of(before)], "warning")


class Forging(FileSigner):
    """A signer that signs with another key than it shows."""

    async def sign(self, version: int, data: bytes) -> bytes:
        return bytes(64)


async def test_a_signature_that_nobody_would_take_goes_to_nobody(tmp_path: Path, clock: FixedClock) -> None:
    async with Forging(tmp_path / "keys", "dev", clock=clock) as signer:
        with capture_logs() as lines, pytest.raises(ExternalServiceError, match="cannot be signed just now"):
            await issue(KeyRing(signer, SCHEDULE, refresh=10, clock=clock), clock)
    assert [each["event"] for each in lines if each["log_level"] == "error"] == ["the signer refuses"]


async def test_a_file_that_became_unreadable_leaves_what_is_known(tmp_path: Path, clock: FixedClock) -> None:
    path = tmp_path / "keys"
    async with FileSigner(path, "dev", clock=clock) as signer:
        ring = KeyRing(signer, SCHEDULE, refresh=10, clock=clock)
        before = await ring.jwk_set()
        path.write_text("[]")
        clock.advance(10)

        assert await ring.jwk_set() == before
        with pytest.raises(SignerError, match="is no file of signing keys"):
            await signer.rotate()
    assert path.read_text() == "[]"


@pytest.mark.parametrize(
    ("jwk", "name"),
    [
        (  # RFC 7638 §3.1
            {
                "kty": "RSA",
                "n": "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKR"
                "XjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8K"
                "JZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIq"
                "bw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw",
                "e": "AQAB",
                "alg": "RS256",
                "kid": "2011-04-29",
            },
            "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs",
        ),
        (  # RFC 8037 A.3
            {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"},
            "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k",
        ),
    ],
)
def test_a_key_is_named_as_the_rfc_says(jwk: dict[str, str], name: str) -> None:
    assert thumbprint(jwk) == name
    assert PublicKey(1, 0.0, {member: jwk[member] for member in jwk if member not in ("alg", "kid")}).kid == name
