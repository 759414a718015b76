"""Whether the token of a caller was taken back, as the database knows before others hear of it."""

from typing import Protocol

from grpc_common.principal import Principal


class TakenBack(Protocol):
    """What is known of sessions and access tokens taken back."""

    async def holds(self, identifier: str) -> bool:
        """Say whether that session or token, by its `sid` or `jti`, was taken back.

        Raises:
            ExternalServiceError: the database cannot be reached or does not answer in time.
        """
        ...


async def is_taken_back(principal: Principal, known: TakenBack) -> bool:
    """Say whether the token that proved `principal` was taken back, or its session; raises as `holds` does."""
    if principal.token_id and await known.holds(principal.token_id):
        return True
    return bool(principal.session_id) and await known.holds(principal.session_id)
