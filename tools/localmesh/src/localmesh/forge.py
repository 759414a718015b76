"""Tokens nobody should take, for a demonstration and for tests."""

import base64
import json
from collections.abc import Mapping
from typing import Any

import hvac
import jwt
from cryptography.hazmat.primitives.asymmetric import ec

from localmesh.transit import MOUNT


class Forge:
    """Makes tokens wrong in one thing only. `client` may do everything in OpenBao: it signs with the issuer's key."""

    def __init__(self, client: hvac.Client) -> None:
        self._client = client

    def changed(self, token: str, header: Mapping[str, Any] | None = None, **claims: Any) -> str:
        """The token with other claims, or members of its header, signed by the version of the key that signed it."""
        said_header, said = (json.loads(_decoded(part)) for part in token.split(".")[:2])
        key, _, version = said_header["kid"].rpartition("-v")
        signed = ".".join(_encoded(json.dumps(part).encode()) for part in (said_header | (header or {}), said | claims))
        request = {
            "input": base64.b64encode(signed.encode()).decode(),
            "key_version": int(version),
            "hash_algorithm": "sha2-256",
            "marshaling_algorithm": "jws",
        }
        answer = self._client.write_data(f"{MOUNT}/sign/{key}", data=request)
        return f"{signed}.{answer['data']['signature'].rpartition(':')[2]}"

    @staticmethod
    def foreign(token: str) -> str:
        """The same token, signed with a key of somebody else."""
        header, said = jwt.get_unverified_header(token), jwt.decode(token, options={"verify_signature": False})
        return jwt.encode(said, ec.generate_private_key(ec.SECP256R1()), algorithm="ES256", headers=header)


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "==")
