"""The signer whose keys are in a file of this machine: for a service that runs alone, on a developer's desk."""

import asyncio
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import jwt
import structlog
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from auth.private_file import make_private, read_private, replace_private
from auth.signer import Algorithm, PublicKey, SignerError, to_jwk

_NEW_KEY: Final[Mapping[Algorithm, Callable[[], Any]]] = {
    "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate,
    "RS256": lambda: rsa.generate_private_key(public_exponent=65537, key_size=2048),
}


class FileSigner:
    """A key in the file at `path`, which is made the first time and which nobody but its owner may read.

    One process at a time rotates it. `clock` gives Unix seconds.
    """

    def __init__(
        self, path: Path, name: str, algorithm: Algorithm = "ES256", *, clock: Callable[[], float] = time.time
    ) -> None:
        self._path = path
        self._name = name
        self._algorithm = algorithm
        self._clock = clock
        self._jws = jwt.PyJWS().get_algorithm_by_name(algorithm)
        self._keys: dict[int, tuple[float, Any]] = {}
        self._seen: tuple[int, ...] = ()
        self._changing = asyncio.Lock()
        self._log = structlog.get_logger(component="signer", key=name)

    @property
    def name(self) -> str:
        """What the key is called."""
        return self._name

    @property
    def algorithm(self) -> Algorithm:
        """What the key is for."""
        return self._algorithm

    async def __aenter__(self) -> Self:
        """Read the file, or make it; raise SignerError when it is not ours alone, or not for this algorithm."""
        await asyncio.to_thread(self._open)
        self._log.warning(
            "tokens are signed with a key in a file: whoever reads it is anybody; for development only",
            path=str(self._path),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._keys.clear()

    async def versions(self) -> Sequence[PublicKey]:
        """Return all versions there are in the file as it is now, oldest first."""
        async with self._changing:
            await asyncio.to_thread(self._open)
        return [
            PublicKey(version, made_at, to_jwk(key.public_key(), self._algorithm))
            for version, (made_at, key) in sorted(self._keys.items(), key=lambda each: each[0])
        ]

    async def sign(self, version: int, data: bytes) -> bytes:
        """Return the signature of `data` by that version."""
        if version not in self._keys:
            raise SignerError(f"the key {self._name} has no version {version} any more")
        _, key = self._keys[version]
        return bytes(await asyncio.to_thread(self._jws.sign, data, key))

    async def rotate(self) -> None:
        """Make the next version."""
        async with self._changing:
            made = await asyncio.to_thread(_NEW_KEY[self._algorithm])
            await asyncio.to_thread(self._open)  # what another has put there meanwhile is not overwritten
            await self._replace({**self._keys, max(self._keys) + 1: (self._clock(), made)})
        self._log.info("signing key rotated")

    async def retire(self, before: int) -> None:
        """Destroy all versions before that one."""
        async with self._changing:
            await asyncio.to_thread(self._open)
            await self._replace({version: key for version, key in self._keys.items() if version >= before})
        self._log.info("old versions of the signing key destroyed", before=before)

    async def _replace(self, keys: dict[int, tuple[float, Any]]) -> None:
        if not keys:
            raise SignerError(f"the key {self._name} must keep a version to sign with")
        await asyncio.to_thread(replace_private, self._path, self._text(keys))
        await asyncio.to_thread(self._open)

    def _open(self) -> None:
        """Make the file if there is none; read it if it is another one than before."""
        if not self._path.exists():
            make_private(self._path, self._text({1: (self._clock(), _NEW_KEY[self._algorithm]())}))
            self._log.info("made signing keys", path=str(self._path))
        seen = _seen(self._path)
        if seen != self._seen:
            self._keys = self._read()
            self._seen = seen

    def _read(self) -> dict[int, tuple[float, Any]]:
        try:
            text = read_private(self._path)
        except PermissionError as error:
            raise SignerError(f"{error}: make new keys, and `chmod 600` the file") from None
        except UnicodeDecodeError:
            text = ""
        try:
            content = json.loads(text)
            algorithm = content["algorithm"]
            found = {
                int(entry["version"]): (
                    float(entry["made_at"]),
                    load_pem_private_key(entry["private_key"].encode(), password=None),
                )
                for entry in content["versions"]
            }
        except (ValueError, TypeError, KeyError, AttributeError):
            # Its text may quote the file.
            raise SignerError(f"{self._path} is no file of signing keys: put it away, and another is made") from None
        if algorithm != self._algorithm or not found:
            raise SignerError(
                f"{self._path} holds keys for {algorithm!r:.20}, not {self._algorithm}: name another file"
            )
        return found

    def _text(self, keys: Mapping[int, tuple[float, Any]]) -> str:
        pkcs8 = (Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        versions = [
            {"version": version, "made_at": made_at, "private_key": key.private_bytes(*pkcs8).decode()}
            for version, (made_at, key) in keys.items()
        ]
        return json.dumps({"algorithm": self._algorithm, "versions": versions})


def _seen(path: Path) -> tuple[int, ...]:
    stat = path.stat()
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns
