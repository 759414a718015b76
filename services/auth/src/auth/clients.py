"""The accounts of clients."""

import re
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Final

from pydantic import SecretStr

from auth.audit import Kind
from auth.caller import Caller
from auth.client import Client, hash_of, new_secret
from auth.recorder import Recorder
from auth.repository import Clients
from auth.sessions import FIRST_PARTY
from grpc_common.errors import ValidationError

_USER_ID: Final = re.compile(r"[0-9a-fA-F]{8}(?:-?[0-9a-fA-F]{4}){3}-?[0-9a-fA-F]{12}")
"""What is given to users, and any UUID written like it."""


class ClientAccounts:
    """Creates and deletes clients."""

    def __init__(self, clients: Clients, recorder: Recorder, clock: Callable[[], datetime]) -> None:
        self._clients = clients
        self._recorder = recorder
        self._clock = clock

    async def create(self, client_id: str, roles: Iterable[str], scopes: Iterable[str], caller: Caller) -> SecretStr:
        """Create a client and return its secret.

        Raises:
            ConflictError: for `client_id`, when another one has the id, or one that differs in capital letters only.
            ValidationError: for `client_id`, when it could be taken for a user's (RFC 9068 §5) or for the first party,
                or when a path of REST cannot name it (RFC 3986 §5.2.4).
        """
        if client_id.lower() == FIRST_PARTY or _USER_ID.fullmatch(client_id) or not client_id.strip("."):
            raise ValidationError("is not for a client: take another one", field="client_id")
        secret = new_secret()
        client = Client(client_id, hash_of(secret), frozenset(roles), frozenset(scopes), self._clock())
        given = tuple(sorted(client.roles))
        event = self._recorder.event(Kind.CLIENT_CREATED, caller, subject=client_id, client_id=client_id, roles=given)
        await self._clients.add(client, event)
        return secret

    async def delete(self, client_id: str, caller: Caller) -> None:
        """Delete a client; raise NotFoundError when there is none."""
        event = self._recorder.event(Kind.CLIENT_DELETED, caller, subject=client_id, client_id=client_id)
        await self._clients.delete(client_id, event)
