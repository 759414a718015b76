"""Who is an administrator at this moment, whatever the token says."""

from auth.repository import Clients, Users
from auth.taken_back import TakenBack, is_taken_back
from auth.user import ADMIN
from grpc_common.errors import ForbiddenError
from grpc_common.jwt_service import token_revoked
from grpc_common.principal import Principal


class Administrators:
    """Asks the database. A token says what its subject was allowed minutes ago: enough for other services, and not for
    the one that could give the lost role back.
    """

    def __init__(self, users: Users, clients: Clients, taken_back: TakenBack) -> None:
        self._users = users
        self._clients = clients
        self._taken_back = taken_back

    async def require(self, principal: Principal) -> str:
        """Return the id of the administrator who calls.

        Raises:
            UnauthorizedError: the token was taken back, of which this process need not have heard.
            ForbiddenError: the caller is no administrator any more.
            ExternalServiceError: the database cannot be reached.
        """
        if await is_taken_back(principal, self._taken_back):
            raise token_revoked()
        if principal.subject != principal.client_id:  # a client's id is never a user's
            user = await self._users.get(principal.subject)
            may = user is not None and not user.disabled and ADMIN in user.roles
        else:
            client = await self._clients.get(principal.subject)
            may = client is not None and ADMIN in client.roles
        if not may:
            raise ForbiddenError("you are no administrator any more")
        return principal.subject
