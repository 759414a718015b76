"""The signing keys, as administrators see them."""

from auth.audit import Kind
from auth.caller import Caller
from auth.key_ring import KeyRing
from auth.recorder import Recorder


class Keys:
    """Rotates the signing key by command."""

    def __init__(self, ring: KeyRing, recorder: Recorder) -> None:
        self._ring = ring
        self._recorder = recorder

    async def rotate(self, caller: Caller) -> tuple[str, float]:
        """Make the next key; return its kid, and when it signs, in Unix seconds.

        Raises:
            ExternalServiceError: the keys are out of reach.
        """
        kid, signs_from = await self._ring.rotate()
        await self._recorder.record(Kind.KEY_ROTATED, caller, reason=kid)
        return kid, signs_from
