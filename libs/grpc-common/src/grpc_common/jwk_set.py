"""The public keys of an issuer, as its JWKS document has them (RFC 7517)."""

from collections.abc import Iterable, Mapping
from typing import Any, Final, Self

import jwt

from grpc_common.strict_json import load_object

# The only algorithms there are here; each fits one type of key and one curve. There is no `none` and no HMAC to confuse
# a public key with (RFC 8725 §3.1, §3.2).
KEY_OF_ALGORITHM: Final[Mapping[str, tuple[str, str | None]]] = {
    "ES256": ("EC", "P-256"),
    "EdDSA": ("OKP", "Ed25519"),
    "RS256": ("RSA", None),
}
_ALGORITHM_OF_KEY: Final = {key: algorithm for algorithm, key in KEY_OF_ALGORITHM.items()}
_MATERIAL: Final = ("kty", "crv", "x", "y", "n", "e")

MAX_KEYS: Final = 100
MIN_RSA_BITS: Final = 2048
MAX_RSA_BITS: Final = 8192


class KeySetError(ValueError):
    """A JWKS document that cannot be used; the message says why and quotes nothing of it."""


class VerifyingKey:
    """A public key of an issuer, for one algorithm."""

    __slots__ = ("_key", "algorithm", "kid", "material", "retired")

    def __init__(self, kid: str, algorithm: str, jwk: Mapping[str, Any]) -> None:
        self.kid = kid
        self.algorithm = algorithm
        self.material = tuple(jwk.get(name) for name in _MATERIAL)
        self.retired = False
        """Set once the issuer publishes it no more: what it proved is no longer proved."""
        self._key = jwt.PyJWK({name: jwk[name] for name in _MATERIAL if name in jwk}, algorithm=algorithm)

    @property
    def bits(self) -> int:
        """The size of an RSA key's modulus."""
        bits: int = self._key.key.key_size
        return bits

    def verify(self, signed: bytes, signature: bytes) -> bool:
        """Say whether `signature` (JWS form: r and s side by side for ES256) is this key's over `signed`."""
        return bool(self._key.Algorithm.verify(signed, self._key.key, signature))


class KeySet:
    """Keys by kid and algorithm, so that a key never verifies what it was not made for."""

    __slots__ = ("by_name", "kids")

    def __init__(self, keys: Iterable[VerifyingKey]) -> None:
        self.by_name: dict[tuple[str, str], VerifyingKey] = {}
        for key in keys:
            known = self.by_name.setdefault((key.kid, key.algorithm), key)
            if known.material != key.material:
                raise KeySetError("two keys have the same kid")
        if not self.by_name:
            raise KeySetError("it holds no usable key")
        self.kids = frozenset(kid for kid, _ in self.by_name)

    @classmethod
    def parse(cls, document: bytes) -> Self:
        """Read a JWKS document; keys of unknown or unfit kinds are left out, and a set without any other is refused."""
        try:
            members = load_object(document).get("keys")
        except ValueError as error:
            raise KeySetError("it is not a JSON object that means one thing only") from error
        return cls.of(members)

    @classmethod
    def of(cls, members: object) -> Self:
        """Read the `keys` member of a JWKS document."""
        if not isinstance(members, list):
            raise KeySetError("it has no list of keys")
        if len(members) > MAX_KEYS:
            raise KeySetError(f"it holds more than {MAX_KEYS} keys")
        return cls(key for member in members if (key := _usable(member)) is not None)

    def find(self, kid: str, algorithm: str) -> VerifyingKey | None:
        """Return the key named `kid` if it is one for `algorithm`."""
        return self.by_name.get((kid, algorithm))

    def replace(self, old: Self | None) -> None:
        """Take the place of `old`: keys in both stay the same objects, keys only in `old` are retired."""
        if old is None:
            return
        for name, key in old.by_name.items():
            new = self.by_name.get(name)
            if new is not None and new.material == key.material:
                self.by_name[name] = key
            else:
                key.retired = True


def _usable(jwk: object) -> VerifyingKey | None:
    if not isinstance(jwk, dict) or "d" in jwk:  # a private key that was published is nobody's proof
        return None
    kid, kty, crv = jwk.get("kid"), jwk.get("kty"), jwk.get("crv")
    if not isinstance(kid, str) or not kid or not isinstance(kty, str) or not isinstance(crv, str | None):
        return None
    algorithm = _ALGORITHM_OF_KEY.get((kty, crv))
    if algorithm is None or jwk.get("alg", algorithm) != algorithm or not _is_for_signatures(jwk):
        return None
    try:
        key = VerifyingKey(kid, algorithm, jwk)
    except (jwt.PyJWTError, ValueError, TypeError, AttributeError):  # all that PyJWT lets through of a bad member
        return None
    if kty == "RSA" and not MIN_RSA_BITS <= key.bits <= MAX_RSA_BITS:
        return None
    return key


def _is_for_signatures(jwk: Mapping[str, Any]) -> bool:
    operations = jwk.get("key_ops", ["verify"])
    return jwk.get("use", "sig") == "sig" and isinstance(operations, list) and "verify" in operations
