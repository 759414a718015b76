"""What is kept of clients, on PostgreSQL and on SQLite, and what is told of it."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from people import NOW, a_client, happened
from sqlalchemy.ext.asyncio import AsyncEngine
from told import told

from auth.audit import Kind
from auth.client import hash_of, new_secret
from auth.repository import Clients
from auth.sql_clients import SqlClients
from grpc_common.database.engine import Limits, open_engine
from grpc_common.errors import ConflictError, DatabaseError, ExternalServiceError, NotFoundError

CREATED = happened(Kind.CLIENT_CREATED, "billing")
DELETED = happened(Kind.CLIENT_DELETED, "billing")
ENDED = replace(DELETED, session_id=a_client().session_id)
"""As it is told: with what its tokens are taken back by."""


@pytest.fixture
def clients(engine: AsyncEngine) -> Clients:
    return SqlClients(engine)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"roles": frozenset(), "scopes": frozenset()},
        {"scopes": frozenset({"!", "https://example.com/a?b=c%20d", "~[]'--;$1:x"})},
        {"id": "B.-_9" * 12, "secret_hash": bytes(32)},
        {"created_at": datetime(9999, 12, 31, 23, 59, 59, 999999, UTC)},
    ],
)
async def test_what_was_added_is_found_as_it_was(
    clients: Clients, engine: AsyncEngine, changes: dict[str, Any]
) -> None:
    client = a_client(**changes)

    await clients.add(client, CREATED)

    assert await clients.get(client.id) == client
    assert await told(engine) == [CREATED]


async def test_its_secret_proves_it(clients: Clients) -> None:
    secret = new_secret()
    await clients.add(a_client(secret_hash=hash_of(secret)), CREATED)

    kept = await clients.get("billing")

    assert kept is not None
    assert kept.is_proved_by(secret)
    assert not kept.is_proved_by(new_secret())


def test_who_gets_the_id_of_another_one_has_a_session_of_its_own() -> None:
    first, second = [a_client(secret_hash=hash_of(new_secret())) for _ in range(2)]

    assert first.session_id != second.session_id
    assert first.session_id == replace(first, roles=frozenset()).session_id
    assert first.session_id not in first.secret_hash.hex()


@pytest.mark.parametrize("nobody", ["", "Billing", "billing ", "bill\0ing", "\udfff", "x" * 10_000, "%"])
async def test_what_was_not_is_neither_found_nor_deleted(clients: Clients, engine: AsyncEngine, nobody: str) -> None:
    await clients.add(a_client(), CREATED)

    assert await clients.get(nobody) is None
    with pytest.raises(NotFoundError) as missing:
        await clients.delete(nobody, DELETED)
    assert missing.value.field == "client_id"
    assert await told(engine) == [CREATED]


async def test_an_id_is_given_once_and_only_that_is_told(clients: Clients, engine: AsyncEngine) -> None:
    several = [a_client(secret_hash=bytes([number]) * 32) for number in range(20)]

    outcomes = await asyncio.gather(*(clients.add(client, CREATED) for client in several), return_exceptions=True)

    refused = [outcome for outcome in outcomes if isinstance(outcome, ConflictError)]
    assert len(refused) == 19
    assert {(error.field, error.message) for error in refused} == {
        ("client_id", "another client has this client_id, or one that differs in capital letters only")
    }
    assert await clients.get("billing") == several[outcomes.index(None)]
    assert await told(engine) == [CREATED]


async def test_no_two_ids_differ_by_capital_letters_alone(clients: Clients, engine: AsyncEngine) -> None:
    spelt = ["billing", "Billing", "BILLING", "bILLING"]

    outcomes = await asyncio.gather(*(clients.add(a_client(each), CREATED) for each in spelt), return_exceptions=True)

    assert sum(outcome is None for outcome in outcomes) == 1
    refused = [outcome for outcome in outcomes if isinstance(outcome, ConflictError)]
    assert [error.field for error in refused] == ["client_id"] * 3
    (kept,) = [each for each in spelt if await clients.get(each) is not None]
    await clients.delete(kept, DELETED)
    await clients.add(a_client("Billing"), CREATED)


async def test_a_deleted_client_is_gone_and_its_id_is_free(clients: Clients, engine: AsyncEngine) -> None:
    await clients.add(a_client(), CREATED)

    await clients.delete("billing", DELETED)

    assert await clients.get("billing") is None
    await clients.add(a_client(), CREATED)
    assert await told(engine) == [CREATED, ENDED, CREATED]


async def test_of_many_who_delete_at_once_one_succeeds(clients: Clients, engine: AsyncEngine) -> None:
    await clients.add(a_client(), CREATED)
    await clients.add(a_client("other"), CREATED)

    outcomes = await asyncio.gather(*(clients.delete("billing", DELETED) for _ in range(20)), return_exceptions=True)

    assert sum(outcome is None for outcome in outcomes) == 1
    assert sum(isinstance(outcome, NotFoundError) for outcome in outcomes) == 19
    assert await told(engine) == [CREATED, CREATED, ENDED]
    assert await clients.get("other") == a_client("other")


async def test_a_time_without_a_zone_is_refused_and_nothing_is_told(clients: Clients, engine: AsyncEngine) -> None:
    with pytest.raises(DatabaseError):
        await clients.add(a_client(created_at=NOW.replace(tzinfo=None)), CREATED)

    assert await clients.get("billing") is None
    assert await told(engine) == []


async def test_no_database_in_time_is_unavailable(migrated_url: str, limits: Limits) -> None:
    tight = replace(limits, connections=1, pool_timeout=0.05)
    async with open_engine(migrated_url, tight) as engine, engine.connect():
        clients = SqlClients(engine)
        for verb in (clients.get("x"), clients.add(a_client(), CREATED), clients.delete("x", DELETED)):
            with pytest.raises(ExternalServiceError):
                await verb
