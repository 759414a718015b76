"""The keys of this service's own tokens, without asking anybody over the network."""

from auth.key_ring import KeyRing
from grpc_common.jwk_set import KeySet, VerifyingKey


class RingKeys:
    """The `KeySource` of a key ring: what it publishes, read when a token is seen for the first time."""

    def __init__(self, ring: KeyRing) -> None:
        self._ring = ring
        self._kids: list[str] = []
        self._keys: KeySet | None = None

    async def find(self, kid: str, algorithm: str) -> VerifyingKey | None:
        """Return the key of that name; raise ExternalServiceError when the signer has never been asked and is away."""
        published = (await self._ring.jwk_set())["keys"]
        kids = [jwk["kid"] for jwk in published]
        if self._keys is None or kids != self._kids:
            keys = KeySet.of(published)
            keys.replace(self._keys)
            self._keys, self._kids = keys, kids
        return self._keys.find(kid, algorithm)
