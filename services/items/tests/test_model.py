"""Random sequences of calls, against a model of a few lines that keeps items in a dictionary; on both databases."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import grpc
from grpc import StatusCode
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete
from sqlalchemy.ext.asyncio import AsyncEngine

from items.changes import ChangeLog
from items.table import CHANGES, ITEMS, REQUESTS
from meshwork.items.v1 import items_service_pb2 as pb

if TYPE_CHECKING:  # there is no such class at run time
    from meshwork.items.v1.items_service_pb2_grpc import ItemServiceAsyncStub as Stub

skus = st.sampled_from(["A", "B", "C", "D"])
quantities = st.integers(-1, 3)
names = st.sampled_from(["", "Lamp", "Torch"])
which = st.integers(0, 5)
etags = st.sampled_from(["none", "current", "stale"])
request_ids = st.sampled_from(["", "9a6c3a52-6d0d-4a77-9d0e-3f6d5d0c9a01", "9a6c3a52-6d0d-4a77-9d0e-3f6d5d0c9a02"])
ids = st.sampled_from(["x", "y"])

news = st.tuples(names, skus, quantities, request_ids)
actions = st.one_of(st.tuples(st.just("upsert"), ids, names, skus, quantities), st.tuples(st.just("delete"), ids))
steps = st.one_of(
    st.tuples(st.just("create"), news),
    st.tuples(st.just("update"), which, st.none() | names, st.none() | quantities, etags),
    st.tuples(st.just("delete"), which, etags),
    st.tuples(st.just("get"), which),
    st.tuples(st.just("search"), quantities, st.sampled_from(["", "sku desc", "quantity, sku"]), st.integers(1, 3)),
    st.tuples(st.just("stream"), st.integers(0, 3)),
    st.tuples(st.just("batch"), st.lists(news, max_size=5)),
    st.tuples(st.just("sync"), st.lists(actions, max_size=5)),
)


@dataclass
class Model:
    """What must be there: each item as it was last answered, every id that ever was, every request that is known."""

    items: dict[str, pb.Item] = field(default_factory=dict)
    ids: list[str] = field(default_factory=list)
    etags: dict[str, list[str]] = field(default_factory=dict)
    requests: dict[str, tuple[Any, str]] = field(default_factory=dict)

    def keep(self, item: pb.Item) -> None:
        assert item.etag not in self.etags.get(item.id, [])
        self.items[item.id] = item
        self.etags.setdefault(item.id, []).append(item.etag)
        if item.id not in self.ids:
            self.ids.append(item.id)

    def id_of(self, number: int) -> str:
        return self.ids[number % len(self.ids)] if self.ids else "nobody"

    def etag(self, item_id: str, kind: str) -> str:
        current = self.items[item_id].etag if item_id in self.items else '"0"'
        return {"none": "", "current": current, "stale": '"1"'}[kind]

    def change(self, item_id: str, kind: str, *, bad: bool) -> StatusCode:
        """What a change of an item must come to."""
        if bad:
            return StatusCode.INVALID_ARGUMENT
        if item_id not in self.items:
            return StatusCode.NOT_FOUND
        return StatusCode.ABORTED if kind == "stale" else StatusCode.OK

    def create(self, name: str, sku: str, quantity: int, request_id: str) -> tuple[StatusCode, str]:
        """What a new item must come to, and whose id it has when it is a repeat."""
        if not name or quantity < 0:
            return StatusCode.INVALID_ARGUMENT, ""
        if request_id in self.requests:
            asked, item_id = self.requests[request_id]
            same = asked == (name, sku, quantity)
            return (StatusCode.OK, item_id) if same else (StatusCode.INVALID_ARGUMENT, "")
        return (StatusCode.ALREADY_EXISTS if self.taken(sku) else StatusCode.OK), ""

    def taken(self, sku: str) -> bool:
        return any(item.sku == sku for item in self.items.values())


class Run:
    """Does each step with the service and with the model, and compares."""

    def __init__(self, stub: "Stub", clock: Any) -> None:
        self.stub = stub
        self.clock = clock
        self.model = Model()

    async def create(self, new: tuple[str, str, int, str]) -> None:
        expected, repeated = self.model.create(*new)
        status, item = await outcome(self.stub.CreateItem(request(new)))
        assert status is expected
        if item and repeated:
            assert item.id == repeated
        elif item:
            self._created(new, item)

    async def update(self, number: int, name: str | None, quantity: int | None, kind: str) -> None:
        item_id = self.model.id_of(number)
        change = pb.UpdateItemRequest(id=item_id, etag=self.model.etag(item_id, kind))
        if name is not None:
            change.name = name
        if quantity is not None:
            change.quantity = quantity
        bad = name == "" or quantity == -1
        status, item = await outcome(self.stub.UpdateItem(change))
        assert status is self.model.change(item_id, kind, bad=bad)
        if item is None:
            return
        before = self.model.items[item_id]
        assert item.name == (before.name if name is None else name)
        assert item.quantity == (before.quantity if quantity is None else quantity)
        if name is None and quantity is None:
            assert item == before
        else:
            self.model.keep(item)

    async def delete(self, number: int, kind: str) -> None:
        item_id = self.model.id_of(number)
        status, _ = await outcome(
            self.stub.DeleteItem(pb.DeleteItemRequest(id=item_id, etag=self.model.etag(item_id, kind)))
        )
        assert status is self.model.change(item_id, kind, bad=False)
        if status is StatusCode.OK:
            del self.model.items[item_id]

    async def get(self, number: int) -> None:
        item_id = self.model.id_of(number)
        status, item = await outcome(self.stub.GetItem(pb.GetItemRequest(id=item_id)))
        assert item == self.model.items.get(item_id)
        assert (status is StatusCode.OK) == (item_id in self.model.items)

    async def search(self, least: int, order: str, size: int) -> None:
        found: list[pb.Item] = []
        token = ""
        while True:
            page = await self.stub.SearchItems(
                pb.SearchItemsRequest(filter=f"quantity >= {least}", order_by=order, page_size=size, page_token=token)
            )
            found += page.items
            token = page.next_page_token
            if not token:
                break
            assert len(page.items) == size
        expected = [item for item in self.model.items.values() if item.quantity >= least]
        match order:
            case "sku desc":
                expected.sort(key=lambda item: item.sku, reverse=True)
            case "":
                expected.sort(key=lambda item: item.id)
            case _:
                expected.sort(key=lambda item: (item.quantity, item.sku))
        assert found == expected

    async def stream(self, most: int) -> None:
        found = [item async for item in self.stub.ListItems(pb.ListItemsRequest(page_size=most))]
        assert found == sorted(self.model.items.values(), key=lambda item: item.id)[: most or None]

    async def batch(self, all_new: list[tuple[str, str, int, str]]) -> None:
        response = await self.stub.BatchCreateItems(request(new) for new in all_new)
        created = iter(response.created_ids)
        failed = {int(error.field[1 : error.field.index("]")]) for error in response.errors}
        asked: dict[str, Any] = {}
        for place, new in enumerate(all_new):
            expected, repeated = self.model.create(*new)
            if new[3] and expected is not StatusCode.INVALID_ARGUMENT and asked.setdefault(new[3], new) != new:
                expected = StatusCode.INVALID_ARGUMENT  # of another item of this call, even where that was refused
            assert (expected is not StatusCode.OK) == (place in failed)
            if expected is not StatusCode.OK:
                continue
            item_id = next(created)
            if repeated:
                assert item_id == repeated
            else:
                self._created(new, await self.stub.GetItem(pb.GetItemRequest(id=item_id)))
        assert next(created, None) is None

    async def sync(self, wanted: list[Any]) -> None:
        call = self.stub.SyncItems()
        try:
            await self._sync(call, wanted)
        finally:
            call.cancel()  # or a failed step leaves its stream open, and the next steps fail of too many

    async def _sync(self, call: Any, wanted: list[Any]) -> None:
        for index, action in enumerate(wanted):  # one by one, so that the model can follow
            self.clock.move(seconds=1e-6)  # an item that comes back differs from the one before by its microsecond
            item_id = action[1]
            if action[0] == "delete":
                await call.write(pb.ItemSyncRequest(delete_id=item_id))
                expected = item_id in self.model.items
            else:
                _, _, name, sku, quantity = action
                upsert = pb.Item(id=item_id, name=name, sku=sku, quantity=quantity, is_active=True)
                await call.write(pb.ItemSyncRequest(upsert=upsert))
                there = self.model.items.get(item_id)
                free = there.sku == sku if there else not self.model.taken(sku)
                expected = bool(name) and quantity >= 0 and free
            answer = await call.read()
            assert (answer.index, answer.success) == (index, expected)
            if expected and action[0] == "delete":
                del self.model.items[item_id]
            elif expected:
                item = await self.stub.GetItem(pb.GetItemRequest(id=item_id))
                assert (item.name, item.sku, item.quantity) == (name, sku, quantity)
                if item != self.model.items.get(item_id):
                    self.model.keep(item)
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF

    def _created(self, new: tuple[str, str, int, str], item: pb.Item) -> None:
        name, sku, quantity, request_id = new
        assert (item.name, item.sku, item.quantity) == (name, sku, quantity)
        self.model.keep(item)
        if request_id:
            self.model.requests[request_id] = ((name, sku, quantity), item.id)


def request(new: tuple[str, str, int, str]) -> pb.CreateItemRequest:
    name, sku, quantity, request_id = new
    return pb.CreateItemRequest(name=name, sku=sku, quantity=quantity, request_id=request_id)


async def outcome(call: Any) -> tuple[StatusCode, Any]:
    try:
        return StatusCode.OK, await call
    except grpc.aio.AioRpcError as error:
        return error.code(), None


@given(st.lists(steps, max_size=15))
@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
async def test_the_service_does_what_the_model_does(
    items: "Stub", engine: AsyncEngine, clock: Any, sequence: list[Any]
) -> None:
    """And whoever follows the changes from before the first comes to the same items."""
    async with engine.begin() as connection:
        for table in (ITEMS, CHANGES, REQUESTS):
            await connection.execute(delete(table))
    log = ChangeLog(engine)
    start = (await log.head()).placed
    run = Run(items, clock)

    for step in sequence:
        clock.move(seconds=1)
        await getattr(run, step[0])(*step[1:])

    await run.stream(0)
    while await log.place():
        pass
    followed: dict[str, str] = {}
    for placed in (await log.read(start, 1_000)).changes:
        item = placed.change.item
        if placed.change.kind == "deleted":
            del followed[item.id]
        else:
            followed[item.id] = f'"{item.version:x}"'
    assert followed == {item_id: item.etag for item_id, item in run.model.items.items()}
