"""Where the public keys of an issuer come from."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import structlog

from grpc_common.errors import ExternalServiceError
from grpc_common.jwk_set import KeySet, KeySetError, VerifyingKey


class KeySource(Protocol):
    """The keys one issuer signs with."""

    async def find(self, kid: str, algorithm: str) -> VerifyingKey | None:
        """Return the key, or None when the issuer has no such key; raise ExternalServiceError when nobody can tell."""
        ...


class StaticJWKS:
    """Keys that never change, from a JWKS document already at hand."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._keys = KeySet.of(document.get("keys"))

    async def find(self, kid: str, algorithm: str) -> VerifyingKey | None:
        """Return the key of that name for that algorithm."""
        return self._keys.find(kid, algorithm)


class JWKSFile:
    """Keys from a file, read again when it changes; a file that goes missing or bad leaves the keys it had before.

    Replace the file by renaming another over it, as Kubernetes does with what it mounts.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._keys: KeySet | None = None
        self._seen: tuple[int, ...] | None = None
        self._problem = ""
        self._log = structlog.get_logger(component="jwks")

    async def find(self, kid: str, algorithm: str) -> VerifyingKey | None:
        """Return the key of that name for that algorithm, as the file is now."""
        keys = self._current()
        if keys is None:
            raise ExternalServiceError("the keys that tokens are verified with are not available")
        return keys.find(kid, algorithm)

    async def usable(self) -> bool:
        """Say whether there are keys to verify tokens with, for a check of health, which so notices a new file even
        where all tokens are known already.
        """
        return self._current() is not None

    def _current(self) -> KeySet | None:
        try:
            # A stat is some microseconds, and only checks and tokens not seen before come here.
            version = _version(self._path.stat())
            if version != self._seen:
                keys = KeySet.parse(self._path.read_bytes())
                keys.replace(self._keys)
                self._keys = keys
                self._log.info("keys read", path=str(self._path), kids=sorted(keys.kids))
                self._problem = ""
            self._seen = version
        except (OSError, KeySetError) as error:
            self._report(str(error))
        return self._keys

    def _report(self, problem: str) -> None:
        if problem != self._problem:
            self._problem = problem
            self._log.error("keys not read", path=str(self._path), problem=problem, in_use=self._keys is not None)


def _version(stat: os.stat_result) -> tuple[int, ...]:
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns
