"""The keys of this service's own tokens, without asking anybody over the network."""

from auth.key_ring import KeyRing
from grpc_common.jwk_set import VerifyingKey


class RingKeys:
    """The `KeySource` of a key ring: what it publishes, read when a token is seen for the first time."""

    def __init__(self, ring: KeyRing) -> None:
        self._ring = ring

    async def find(self, kid: str, algorithm: str) -> VerifyingKey | None:
        """Return the key of that name; raise ExternalServiceError when the signer has never been asked and is away.

        A name that is not known may be that of a key that another replica has seen already.
        """
        key = await self._ring.verifying(kid)
        if key is None:
            await self._ring.look_again()
            key = await self._ring.verifying(kid)
        return key if key is not None and key.algorithm == algorithm else None
