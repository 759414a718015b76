"""Adds items, many with a few statements, and each only once."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Table, delete, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from grpc_common.errors import AbortedError, AppException, ConflictError, ValidationError
from items.change import Change, ChangeKind
from items.changes import record
from items.item import Item, first_version
from items.repository import Addition
from items.table import ITEMS, REQUESTS, row_of

# The two agree on ON CONFLICT, and SQLAlchemy still has a class for each.
_INSERT: Final[Mapping[str, Any]] = {"postgresql": postgresql.insert, "sqlite": sqlite.insert}


async def add_all(connection: AsyncConnection, additions: Sequence[Addition]) -> Sequence[Item | AppException]:
    """Inserts what can be, in the transaction of the connection, and returns what each came to.

    Rows are inserted in the order of their keys, so that two who add the same things at once wait for each other and
    do not lock each other out.
    """
    repeats = await _mark(connection, additions)
    fresh = [addition for addition in additions if addition.item.id not in repeats]
    refused = await _insert_items(connection, [addition.item for addition in fresh])
    forgotten = [addition.mark.key for addition in fresh if addition.mark and addition.item.id in refused]
    if forgotten:  # the caller may mend what is wrong and ask again
        await connection.execute(delete(REQUESTS).where(REQUESTS.c.key.in_(forgotten)))
    created = [addition.item for addition in fresh if addition.item.id not in refused]
    await record(connection, [Change(ChangeKind.CREATED, item, item.created_at) for item in created])
    return [_outcome(addition.item, repeats, refused) for addition in additions]


type _Repeats = Mapping[str, Item | AppException]
type _Refused = Mapping[str, AppException]


def _outcome(item: Item, repeats: _Repeats, refused: _Refused) -> Item | AppException:
    outcome = repeats.get(item.id, item)
    return outcome if isinstance(outcome, AppException) else refused.get(outcome.id, outcome)


async def _mark(connection: AsyncConnection, additions: Sequence[Addition]) -> _Repeats:
    """Writes the marks, and returns what the repeated requests came to, by the id of the item they would have made."""
    marked = {addition.item.id: addition for addition in additions if addition.mark is not None}
    if not marked:
        return {}
    rows: list[dict[str, Any]] = [
        {"key": mark.key, "body": mark.body, "item_id": item_id, "created_at": addition.item.created_at}
        for item_id, addition in marked.items()
        if (mark := addition.mark) is not None
    ]
    rows.sort(key=lambda row: row["key"])
    new = await _insert_new(connection, REQUESTS, rows, "item_id")
    repeated = [row for row in rows if row["item_id"] not in new]
    if not repeated:
        return {}
    keys = {row["key"] for row in repeated}
    found = await connection.execute(select(REQUESTS).where(REQUESTS.c.key.in_(keys)))
    first = {row.key: row for row in found}
    return {row["item_id"]: _first_answer(marked[row["item_id"]].item, row, first.get(row["key"])) for row in repeated}


def _first_answer(item: Item, asked: Mapping[str, Any], first: Any) -> Item | AppException:
    """Returns the item that the first request made; it said the same as this one, so only its id and time differ."""
    if first is None:
        return AbortedError("the request of this id was forgotten at this moment: send it again", field="request_id")
    if first.body != asked["body"]:
        return ValidationError("was the id of another request: make a new one for each", field="request_id")
    created: datetime = first.created_at
    return replace(item, id=first.item_id, created_at=created, updated_at=created, version=first_version(created))


async def _insert_items(connection: AsyncConnection, items: Sequence[Item]) -> _Refused:
    """Inserts those whose keys are free, and returns why the others were not, by their ids."""
    rows = [row_of(item) for item in items]
    rows.sort(key=lambda row: row["sku"])  # the first of several with one sku stays the first
    created = await _insert_new(connection, ITEMS, rows, "id")
    refused = [item for item in items if item.id not in created]
    if not refused:
        return {}
    taken = select(ITEMS.c.id).where(ITEMS.c.id.in_([item.id for item in refused]))
    ids = set((await connection.execute(taken)).scalars())
    return {item.id: _taken("id" if item.id in ids else "sku") for item in refused}


async def _insert_new(
    connection: AsyncConnection, table: Table, rows: Sequence[Mapping[str, Any]], key: str
) -> Iterable[str]:
    """Inserts the rows that conflict with none, and returns the values of their `key` columns."""
    if not rows:
        return set()
    inserting = _INSERT[connection.dialect.name](table).on_conflict_do_nothing().returning(table.c[key])
    return set((await connection.execute(inserting, rows)).scalars())


def _taken(field: str) -> ConflictError:
    return ConflictError(f"another item has this {field}", field=field)
