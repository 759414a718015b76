"""The secrets of page tokens, in a table of both databases."""

import pytest
from sqlalchemy import Column, MetaData, String, Table, insert
from sqlalchemy.ext.asyncio import AsyncEngine

from grpc_common.errors import DatabaseError
from grpc_common.listing.field import Field, Kind
from grpc_common.listing.listed import Listed
from grpc_common.listing.page_token import PageTokens
from grpc_common.listing.page_token_secrets import load_page_tokens, page_token_secrets

SECRETS = page_token_secrets("lamp_token_secrets", MetaData())
ID = Field(name="id", column=Table("x", MetaData(), Column("id", String(64))).c.id, kind=Kind.TEXT, unique=True)
QUERY = Listed([ID], key="id").query()


async def test_the_newest_seals_and_all_open(engine: AsyncEngine) -> None:
    first, second = bytes(32), bytes(range(32))
    async with engine.begin() as connection:
        await connection.run_sync(SECRETS.drop, checkfirst=True)
        await connection.run_sync(SECRETS.create)
        await connection.execute(insert(SECRETS), [{"number": 2, "secret": second}, {"number": 1, "secret": first}])

    tokens = await load_page_tokens(engine, SECRETS)

    assert PageTokens(second).read(tokens.write(QUERY, ("a",)), QUERY) == ("a",)
    assert tokens.read(PageTokens(first).write(QUERY, ("b",)), QUERY) == ("b",)


async def test_without_the_table_it_is_an_error_of_the_database(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await connection.run_sync(SECRETS.drop, checkfirst=True)

    with pytest.raises(DatabaseError):
        await load_page_tokens(engine, SECRETS)
