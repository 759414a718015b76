"""Users, clients and events for tests."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from pydantic import SecretStr

from auth.audit import Kind, SecurityEvent
from auth.client import Client
from auth.user import ADMIN, User
from grpc_common.new_id import new_id

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


def a_user(username: str = "alice", roles: Iterable[str] = (), **changes: Any) -> User:
    user = User(
        id=new_id(),
        username=username,
        password_hash=SecretStr("$argon2id$v=19$m=19456,t=2,p=1$c2FsdA$aGFzaA"),
        roles=frozenset(roles),
        disabled=False,
        created_at=NOW,
        updated_at=NOW,
        version=1,
    )
    return replace(user, **changes)


def an_admin(username: str = "root", **changes: Any) -> User:
    return a_user(username, [ADMIN], **changes)


def a_client(client_id: str = "billing", **changes: Any) -> Client:
    client = Client(
        id=client_id,
        secret_hash=bytes(range(32)),
        roles=frozenset({"biller"}),
        scopes=frozenset({"items:read", "items:write"}),
        created_at=NOW,
    )
    return replace(client, **changes)


def happened(kind: Kind, subject: str = "", at: datetime = NOW, **words: str) -> SecurityEvent:
    return SecurityEvent(kind=kind, at=at, subject=subject, actor="somebody", correlation_id="c-1", **words)
