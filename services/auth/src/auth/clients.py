"""The accounts of clients."""

from collections.abc import Callable, Iterable
from datetime import datetime

from pydantic import SecretStr

from auth.audit import Kind
from auth.client import Client, hash_of, new_secret
from auth.recorder import Recorder
from auth.repository import Clients


class ClientAccounts:
    """Creates and deletes clients."""

    def __init__(self, clients: Clients, recorder: Recorder, clock: Callable[[], datetime]) -> None:
        self._clients = clients
        self._recorder = recorder
        self._clock = clock

    async def create(self, client_id: str, roles: Iterable[str], scopes: Iterable[str], *, actor: str) -> SecretStr:
        """Create a client and return its secret; raise ConflictError for `client_id` when another one has the id."""
        secret = new_secret()
        client = Client(client_id, hash_of(secret), frozenset(roles), frozenset(scopes), self._clock())
        event = self._recorder.event(Kind.CLIENT_CREATED, subject=client_id, client_id=client_id, actor=actor)
        await self._clients.add(client, event)
        return secret

    async def delete(self, client_id: str, *, actor: str) -> None:
        """Delete a client; raise NotFoundError when there is none."""
        event = self._recorder.event(Kind.CLIENT_DELETED, subject=client_id, client_id=client_id, actor=actor)
        await self._clients.delete(client_id, event)
