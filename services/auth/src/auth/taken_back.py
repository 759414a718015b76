"""Whether the token of a caller was taken back, as the database knows before others hear of it."""

from typing import Protocol

from grpc_common.principal import Principal


class TakenBack(Protocol):
    """What is known of sessions and access tokens taken back."""

    async def holds(self, *identifiers: str, issued_at: float | None) -> bool:
        """Say whether one of those sessions and tokens, by their `sid` and `jti`, was taken back, or all that were
        issued then, in Unix seconds; None, where that is not known, is as long ago as can be.

        Raises:
            ExternalServiceError: the database cannot be reached or does not answer in time.
        """
        ...


async def is_taken_back(principal: Principal, known: TakenBack) -> bool:
    """Say whether the token that proved `principal` was taken back, or its session; raises as `holds` does."""
    return await known.holds(principal.token_id, principal.session_id, issued_at=principal.issued_at)
