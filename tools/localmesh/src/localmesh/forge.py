"""Tokens nobody should take, for a demonstration and for tests."""

import base64
import hashlib
import json
from collections.abc import Mapping
from typing import Any

import hvac
import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from jwt.algorithms import ECAlgorithm

from localmesh.transit import MOUNT


class Forge:
    """Makes tokens wrong in one thing only. `client` may do everything in OpenBao: it signs with the issuer's key."""

    def __init__(self, client: hvac.Client) -> None:
        self._client = client

    def changed(self, token: str, header: Mapping[str, Any] | None = None, **claims: Any) -> str:
        """The token with other claims, or members of its header, signed by the version of the key that signed it."""
        said_header, said = (json.loads(_decoded(part)) for part in token.split(".")[:2])
        key, version = self._signer_of(said_header["kid"])
        signed = ".".join(_encoded(json.dumps(part).encode()) for part in (said_header | (header or {}), said | claims))
        request = {
            "input": base64.b64encode(signed.encode()).decode(),
            "key_version": version,
            "hash_algorithm": "sha2-256",
            "marshaling_algorithm": "jws",
        }
        answer = self._client.write_data(f"{MOUNT}/sign/{key}", data=request)
        return f"{signed}.{answer['data']['signature'].rpartition(':')[2]}"

    def _signer_of(self, kid: str) -> tuple[str, int]:
        """The key, and the version of it, whose public half has that thumbprint."""
        for name in self._client.list(f"{MOUNT}/keys")["data"]["keys"]:
            versions = self._client.read(f"{MOUNT}/keys/{name}")["data"]["keys"]
            for version, key in versions.items():
                if _thumbprint(key["public_key"]) == kid:
                    return name, int(version)
        raise LookupError(f"no key in OpenBao has made the token: none is {kid}")

    @staticmethod
    def foreign(token: str) -> str:
        """The same token, signed with a key of somebody else."""
        header, said = jwt.get_unverified_header(token), jwt.decode(token, options={"verify_signature": False})
        return jwt.encode(said, ec.generate_private_key(ec.SECP256R1()), algorithm="ES256", headers=header)


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "==")


def _thumbprint(public_key: str) -> str:
    """What names a key (RFC 7638)."""
    key = load_pem_public_key(public_key.encode())
    if not isinstance(key, ec.EllipticCurvePublicKey):
        return ""
    jwk = ECAlgorithm(ECAlgorithm.SHA256).to_jwk(key, as_dict=True)
    said = {name: jwk[name] for name in ("crv", "kty", "x", "y")}
    digest = hashlib.sha256(json.dumps(said, separators=(",", ":"), sort_keys=True).encode()).digest()
    return _encoded(digest)
