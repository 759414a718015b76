"""The contract of signers, held by the one in OpenBao and by the one in a file."""

import asyncio
import time
from pathlib import Path

import hvac
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from auth.signer import Algorithm, SignerError, to_jwk
from signers import ALGORITHMS, OpenSigner, signers_of, verifies


@pytest.fixture(params=["transit", "file"])
def open_signer(request: pytest.FixtureRequest, tmp_path: Path, vault: hvac.Client) -> OpenSigner:
    return signers_of(request.param, tmp_path, vault)


@pytest.fixture(params=ALGORITHMS)
def algorithm(request: pytest.FixtureRequest) -> Algorithm:
    return request.param


class TestSigner:
    async def test_a_new_key_has_one_version_made_now(self, open_signer: OpenSigner, algorithm: Algorithm) -> None:
        before = time.time()
        async with open_signer(algorithm) as signer:
            (version,) = await signer.versions()

        assert version.version == 1
        assert before - 1 < version.made_at < time.time() + 1

    async def test_services_verify_what_it_signs(self, open_signer: OpenSigner, algorithm: Algorithm) -> None:
        async with open_signer(algorithm) as signer:
            for size in (0, 1, 100, 10_000):
                data = b"x" * size
                signature = await signer.sign(1, data)

                assert await verifies(signer, 1, data, signature)
                assert not await verifies(signer, 1, data + b"y", signature)

    async def test_each_version_signs_for_itself(self, open_signer: OpenSigner, algorithm: Algorithm) -> None:
        async with open_signer(algorithm) as signer:
            await signer.rotate()
            assert [each.version for each in await signer.versions()] == [1, 2]

            for version, other in ((1, 2), (2, 1)):
                signature = await signer.sign(version, b"data")
                assert await verifies(signer, version, b"data", signature)
                assert not await verifies(signer, other, b"data", signature)

    async def test_a_version_keeps_its_key_and_its_time_when_others_are_made(self, open_signer: OpenSigner) -> None:
        async with open_signer("ES256") as signer:
            before = list(await signer.versions())
            await signer.rotate()

            assert list(await signer.versions())[:1] == before

    async def test_a_retired_version_is_gone(self, open_signer: OpenSigner, algorithm: Algorithm) -> None:
        async with open_signer(algorithm) as signer:
            await signer.rotate()
            await signer.rotate()
            await signer.retire(3)

            assert [each.version for each in await signer.versions()] == [3]
            with pytest.raises(SignerError):
                await signer.sign(1, b"data")
            assert await verifies(signer, 3, b"data", await signer.sign(3, b"data"))

    async def test_versions_go_on_counting_after_a_retired_one(self, open_signer: OpenSigner) -> None:
        async with open_signer("ES256") as signer:
            await signer.rotate()
            await signer.retire(2)
            await signer.rotate()

            assert [each.version for each in await signer.versions()] == [2, 3]

    async def test_a_version_that_never_was_does_not_sign(self, open_signer: OpenSigner) -> None:
        async with open_signer("ES256") as signer:
            with pytest.raises(SignerError):
                await signer.sign(2, b"data")

    async def test_a_public_key_holds_nothing_private(self, open_signer: OpenSigner, algorithm: Algorithm) -> None:
        members = {"ES256": {"kty", "crv", "x", "y"}, "EdDSA": {"kty", "crv", "x"}, "RS256": {"kty", "n", "e"}}
        async with open_signer(algorithm) as signer:
            (version,) = await signer.versions()

        assert version.jwk.keys() == members[algorithm]

    async def test_many_sign_at_once(self, open_signer: OpenSigner) -> None:
        async with open_signer("ES256") as signer:
            data = [f"data {number}".encode() for number in range(50)]
            signatures = await asyncio.gather(*(signer.sign(1, each) for each in data))

            for each, signature in zip(data, signatures, strict=True):
                assert await verifies(signer, 1, each, signature)


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [
        (ec.generate_private_key(ec.SECP384R1()), "ES256"),
        (ec.generate_private_key(ec.SECP256K1()), "ES256"),
        (ec.generate_private_key(ec.SECP256R1()), "RS256"),
        (ed25519.Ed25519PrivateKey.generate(), "ES256"),
        (rsa.generate_private_key(public_exponent=65537, key_size=1024), "RS256"),  # noqa: S505
        (rsa.generate_private_key(public_exponent=65537, key_size=2048), "EdDSA"),
    ],
)
def test_a_key_is_for_its_own_algorithm_only(key, algorithm: Algorithm) -> None:
    with pytest.raises(SignerError, match=f"not one for {algorithm}"):
        to_jwk(key.public_key(), algorithm)
