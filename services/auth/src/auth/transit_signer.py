"""The signer whose keys are in the transit engine of OpenBao or Vault, and never in this process."""

import asyncio
import binascii
from base64 import b64decode, b64encode, urlsafe_b64decode
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Any, Final, Self

import hvac
import requests
import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from hvac.exceptions import InternalServerError, InvalidPath, InvalidRequest, VaultError

from auth.signer import Algorithm, PublicKey, SignerError, to_jwk
from grpc_common.deadline import remaining
from grpc_common.errors import ExternalServiceError

TIMEOUT: Final = 5.0
AT_ONCE: Final = 4
SIGNATURE_BYTES: Final = 64
"""Of both curves."""
NO_VERSION: Final = "requested version"
"""What a version that is not there is answered with, under a status that says something else is broken."""


class NoKeyError(SignerError):
    """The transit engine has no key of that name."""


@dataclass(frozen=True, slots=True)
class _Kind:
    """What transit calls the key of an algorithm, and what it must be told to sign as a JWS does."""

    key_type: str
    options: Mapping[str, str]


# Transit's own defaults are other ones: ASN.1 for the elliptic curve, and PSS for RSA, which were PS256.
_KINDS: Final[Mapping[Algorithm, _Kind]] = {
    "ES256": _Kind("ecdsa-p256", {"hash_algorithm": "sha2-256", "marshaling_algorithm": "jws"}),
    "EdDSA": _Kind("ed25519", {}),
    "RS256": _Kind("rsa-2048", {"hash_algorithm": "sha2-256", "signature_algorithm": "pkcs1v15"}),
}


class TransitSigner:
    """A key of the transit engine at `mount`, made the first time; `async with` ends the threads that ask for it.

    `client` is logged in by whoever made it; hvac blocks, so each call to it has one of `at_once` threads for at most
    `timeout` seconds, or for what is left of the call that waits.
    """

    def __init__(
        self,
        client: hvac.Client,
        name: str,
        algorithm: Algorithm = "ES256",
        *,
        mount: str = "transit",
        timeout: float = TIMEOUT,  # a limit of each call, not of this one
        at_once: int = AT_ONCE,
    ) -> None:
        self._client = client
        self._name = name
        self._algorithm = algorithm
        self._mount = mount
        self._timeout = timeout
        self._threads = ThreadPoolExecutor(at_once, thread_name_prefix="transit")
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
        """Make the key if there is none; raise ExternalServiceError when nobody can tell."""
        await self._make()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def versions(self) -> Sequence[PublicKey]:
        """Return all versions there are, oldest first; make the key again if it was destroyed."""
        try:
            answer = await self._ask(f"keys/{self._name}")
        except NoKeyError:
            await self._make()
            answer = await self._ask(f"keys/{self._name}")
            self._log.warning("the signing key was gone: made another one")
        kind = _KINDS[self._algorithm].key_type
        with self._understood():
            if answer["type"] != kind:
                raise SignerError(
                    f"the transit key {self._name} is {answer['type']} and must be {kind}: name another key"
                )
            found = ((int(version), key) for version, key in answer["keys"].items())
            return [self._public(version, key) for version, key in sorted(found, key=lambda each: each[0])]

    async def sign(self, version: int, data: bytes) -> bytes:
        """Return the signature of `data` by that version."""
        # hvac's sign_data takes marshaling_algorithm and does not send it.
        request = {
            "input": b64encode(data).decode(),
            "key_version": version,
            **_KINDS[self._algorithm].options,
        }
        answer = await self._ask(f"sign/{self._name}", request)
        with self._understood():
            return _signature(answer["signature"], version, self._algorithm)

    async def rotate(self) -> None:
        """Make the next version."""
        await self._ask(f"keys/{self._name}/rotate", {})
        self._log.info("signing key rotated")

    async def retire(self, before: int) -> None:
        """Destroy all versions before that one."""
        limits = {"min_decryption_version": before, "min_encryption_version": before}
        await self._ask(f"keys/{self._name}/config", limits)
        await self._ask(f"keys/{self._name}/trim", {"min_available_version": before})
        self._log.info("old versions of the signing key destroyed", before=before)

    async def _make(self) -> None:
        # Transit leaves a key that is there as it is.
        kind = _KINDS[self._algorithm]
        await self._ask(f"keys/{self._name}", {"type": kind.key_type, "exportable": False})

    def _public(self, version: int, key: Mapping[str, Any]) -> PublicKey:
        text = key["public_key"]
        parsed: PublicKeyTypes
        if self._algorithm == "EdDSA":
            parsed = Ed25519PublicKey.from_public_bytes(b64decode(text, validate=True))
        else:
            parsed = load_pem_public_key(text.encode())
        made_at = datetime.fromisoformat(key["creation_time"]).timestamp()
        return PublicKey(version, made_at, to_jwk(parsed, self._algorithm))

    async def _ask(self, path: str, body: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
        """Ask transit: read when there is no `body`; what it answers is its `data`."""
        limit = remaining(self._timeout) or 0.001
        url = f"/v1/{self._mount}/{path}"

        def call() -> Mapping[str, Any]:
            adapter = self._client.adapter
            answer = adapter.get(url, timeout=limit) if body is None else adapter.post(url, json=body, timeout=limit)
            return (answer.get("data") or {}) if isinstance(answer, dict) else {}

        return await self._in_thread(call)

    @contextmanager
    def _understood(self) -> Iterator[None]:
        """What answers in OpenBao's place, such as a proxy with a page of its own, is no reason to give up."""
        try:
            yield
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise self._away(error) from None

    async def _in_thread[T](self, call: Callable[[], T]) -> T:
        try:
            async with asyncio.timeout(remaining(self._timeout)):
                return await asyncio.get_running_loop().run_in_executor(self._threads, call)
        except (InvalidPath, InvalidRequest) as error:
            raise self._refused(error) from None
        except InternalServerError as error:
            if NO_VERSION in str(error):
                raise self._refused(error) from None
            raise self._away(error) from None
        except (VaultError, requests.RequestException, TimeoutError) as error:
            raise self._away(error) from None

    def _refused(self, error: VaultError) -> SignerError:
        if isinstance(error, InvalidPath) and not error.errors:  # an engine that is not there says so
            return NoKeyError(f"there is no transit key {self._name}")
        # What is said is about the key and the request, neither of which is a secret.
        said = "; ".join(" ".join(each.split()) for each in error.errors or [])
        return SignerError(f"transit refuses for the key {self._name}: {said or type(error).__name__}")

    def _away(self, error: Exception) -> ExternalServiceError:
        self._log.warning("signing keys out of reach", problem=type(error).__name__)
        return ExternalServiceError("tokens cannot be signed just now")


def _signature(text: str, version: int, algorithm: Algorithm) -> bytes:
    prefix = f"vault:v{version}:"
    encoded = text.removeprefix(prefix)
    if encoded == text:
        raise SignerError(f"transit signed with another version than {version}")
    try:
        signature = urlsafe_b64decode(encoded + "==") if algorithm == "ES256" else b64decode(encoded, validate=True)
    except binascii.Error:
        signature = b""
    if not signature or (algorithm != "RS256" and len(signature) != SIGNATURE_BYTES):
        raise SignerError("transit signed in another form than asked for")
    return signature
