"""Both signers, each with a key of its own."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from itertools import count
from pathlib import Path

import hvac

from auth.file_signer import FileSigner
from auth.signer import Algorithm, Signer
from auth.transit_signer import TransitSigner
from grpc_common.jwk_set import VerifyingKey

ALGORITHMS: tuple[Algorithm, ...] = ("ES256", "EdDSA", "RS256")

type OpenSigner = Callable[[Algorithm], AbstractAsyncContextManager[Signer]]
"""Opens a signer whose key is new."""

_number = count(1)


def signers_of(kind: str, folder: Path, vault: hvac.Client) -> OpenSigner:
    @asynccontextmanager
    async def opened(algorithm: Algorithm) -> AsyncIterator[Signer]:
        name = f"key-{next(_number)}"
        if kind == "file":
            async with FileSigner(folder / f"{name}.json", name, algorithm) as file_signer:
                yield file_signer
        else:
            async with TransitSigner(vault, name, algorithm) as transit_signer:
                yield transit_signer

    return opened


async def numbers_of(signer: Signer) -> dict[str, int]:
    """The numbers of the versions there are, by their names."""
    return {each.kid: each.version for each in await signer.versions()}


async def verifies(signer: Signer, version: int, data: bytes, signature: bytes) -> bool:
    """Whether the services' verifier takes the signature, by the public half of that version."""
    (jwk,) = [each.jwk for each in await signer.versions() if each.version == version]
    return VerifyingKey("k", signer.algorithm, jwk).verify(data, signature)
