"""What the service asks of the place that keeps users and clients."""

from collections.abc import Sequence
from typing import Protocol

from pydantic import SecretStr

from auth.audit import SecurityEvent
from auth.client import Client
from auth.user import User


class Users(Protocol):
    """Keeps users. Each verb is one transaction, with the event that tells of it.

    Every verb raises ExternalServiceError when the database cannot be reached or does not answer in time, and
    DatabaseError when it fails in another way.
    """

    async def add(self, user: User, event: SecurityEvent) -> None:
        """Keep a new user; raise ConflictError for `username` when another one has the name."""
        ...

    async def add_first_admin(self, user: User, event: SecurityEvent) -> bool:
        """Keep the first administrator, and say whether it is the first: whoever comes later, also at the same moment,
        changes nothing.

        Raises:
            ConflictError: another user has the name; it can be tried again with another one.
        """
        ...

    async def get(self, user_id: str) -> User | None:
        """Return the user with that id."""
        ...

    async def find(self, username: str) -> User | None:
        """Return the user with that name, as `account_of` gives it."""
        ...

    async def page(self, after: str, limit: int) -> Sequence[User]:
        """Return the first users, by name, whose names come after `after`; the empty one comes before all."""
        ...

    async def set_password(
        self, user_id: str, kept: SecretStr, password_hash: SecretStr, event: SecurityEvent, *, keep: str = ""
    ) -> bool:
        """Keep another hash if `kept` is the present one, and end all families but `keep`, an id; say whether it was
        so.
        """
        ...

    async def rehash(self, user_id: str, kept: SecretStr, password_hash: SecretStr) -> bool:
        """Keep a hash of the same password made at another cost, if `kept` is the present one; say whether it was."""
        ...

    async def set_roles(self, user_id: str, roles: frozenset[str], etag: str, event: SecurityEvent) -> User:
        """Give the user exactly these roles, and return it; one that has them already is returned unchanged, and
        nothing is told. Who loses a role loses all families with it, whose access tokens say that it is there.

        Raises:
            NotFoundError: there is no such user.
            AbortedError: it does not have this etag; the empty one is everybody's.
            PreconditionError: there would be no administrator any more who may log in.
        """
        ...

    async def set_disabled(self, user_id: str, disabled: bool, etag: str, event: SecurityEvent) -> User:
        """Say whether the user may log in, and return it; raises and leaves alone as `set_roles` does. Who may not
        loses all families.
        """
        ...


class Clients(Protocol):
    """Keeps clients, as `Users` does users."""

    async def add(self, client: Client, event: SecurityEvent) -> None:
        """Keep a new client; raise ConflictError for `client_id` when another one has the id, or one that
        differs in capital letters only.
        """
        ...

    async def get(self, client_id: str) -> Client | None:
        """Return the client with that id."""
        ...

    async def delete(self, client_id: str, event: SecurityEvent) -> None:
        """Forget the client, end its tokens and the families begun with it; raise NotFoundError when there is none.

        `event` is told with the session that its tokens are of.
        """
        ...
