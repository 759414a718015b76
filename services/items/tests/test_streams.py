"""Lists, batches, syncs and watches as callers see them, on PostgreSQL and on SQLite."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from grpc import StatusCode
from sqlalchemy.ext.asyncio import AsyncEngine

from grpc_common.new_id import new_id
from items.changes import ChangeLog
from items.item import NewItem
from items.repository import Addition
from items.sql import SqlItemRepository
from meshwork.common.v1.errors_pb2 import ErrorDetail
from meshwork.items.v1 import items_service_pb2 as pb
from serving import STREAMS, serving

if TYPE_CHECKING:  # there is no such class at run time
    from meshwork.items.v1.items_service_pb2_grpc import ItemServiceAsyncStub as Stub

NEXT = "next-page-token"


async def fill(engine: AsyncEngine, clock: Any, count: int) -> list[str]:
    """Keeps that many items, with prices that repeat, and returns their names in the order of their ids."""
    additions = [
        Addition(
            NewItem(name=f"item {n}", description="", sku=f"S-{n}", quantity=n, price=n % 5).become(new_id(), clock())
        )
        for n in range(count)
    ]
    await SqlItemRepository(engine).add_many(additions)
    return [addition.item.name for addition in sorted(additions, key=lambda addition: addition.item.id)]


async def listed(call: Any) -> tuple[list[str], str]:
    found = [item.name async for item in call]
    trailers = dict(await call.trailing_metadata())
    return found, trailers.get(NEXT, "")


def field_of(error: grpc.aio.AioRpcError) -> str:
    """Returns the field that the details name."""
    return ErrorDetail.FromString(dict(error.trailing_metadata() or ())["error-detail-bin"]).field


class TestListItems:
    async def test_streams_all_in_the_order_of_ids(self, items: "Stub", engine: AsyncEngine, clock: Any) -> None:
        names = await fill(engine, clock, 120)

        assert await listed(items.ListItems(pb.ListItemsRequest())) == (names, "")

    @pytest.mark.parametrize("size", [1, 7, 59, 60, 61])
    async def test_pages_follow_each_other(self, items: "Stub", engine: AsyncEngine, clock: Any, size: int) -> None:
        names = await fill(engine, clock, 60)
        found: list[str] = []
        token = ""
        while True:
            page, token = await listed(items.ListItems(pb.ListItemsRequest(page_size=size, page_token=token)))
            found += page
            if not token:
                break
            assert len(page) == size

        assert found == names

    async def test_a_list_longer_than_what_is_read_at_once(
        self, items: "Stub", engine: AsyncEngine, clock: Any
    ) -> None:
        names = await fill(engine, clock, 1_101)

        found, token = await listed(items.ListItems(pb.ListItemsRequest(page_size=1_100)))
        assert found == names[:1_100]
        assert token
        assert (await listed(items.ListItems(pb.ListItemsRequest())))[0] == names

    async def test_filter_and_order(self, items: "Stub", engine: AsyncEngine, clock: Any) -> None:
        await fill(engine, clock, 20)
        request = pb.ListItemsRequest(filter="price >= 3 AND quantity < 10", order_by="price desc, quantity")

        assert await listed(items.ListItems(request)) == (["item 4", "item 9", "item 3", "item 8"], "")

    async def test_a_caller_who_leaves_midway_leaves_no_connection_in_use(
        self, items: "Stub", engine: AsyncEngine, clock: Any
    ) -> None:
        await fill(engine, clock, 1_000)
        for _ in range(15):  # more than there are connections
            call = items.ListItems(pb.ListItemsRequest())
            await call.read()
            call.cancel()

        assert await items.SearchItems(pb.SearchItemsRequest(page_size=1))

    @pytest.mark.parametrize(
        ("request_", "field"),
        [
            (pb.ListItemsRequest(page_size=-1), "page_size"),
            (pb.ListItemsRequest(page_token="nonsense"), "page_token"),
            (pb.ListItemsRequest(page_token="AAAA" * 200), "page_token"),
            (pb.ListItemsRequest(filter="price >"), "filter"),
            (pb.ListItemsRequest(filter="(" * 1000), "filter"),
            (pb.ListItemsRequest(filter="x OR " * 390 + "x"), "filter"),
            (pb.ListItemsRequest(filter="name = '; DROP TABLE items; --"), "filter"),
            (pb.ListItemsRequest(order_by="1; DROP TABLE items"), "order_by"),
            (pb.ListItemsRequest(order_by="version"), "order_by"),
        ],
        ids=str,
    )
    async def test_bad_arguments_are_named(self, items: "Stub", request_: pb.ListItemsRequest, field: str) -> None:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await listed(items.ListItems(request_))

        assert refused.value.code() is StatusCode.INVALID_ARGUMENT
        assert field_of(refused.value) == field

    async def test_a_token_that_was_changed_or_is_of_another_list(
        self, items: "Stub", engine: AsyncEngine, clock: Any
    ) -> None:
        await fill(engine, clock, 10)
        _, token = await listed(items.ListItems(pb.ListItemsRequest(page_size=3)))
        changed = token[:-2] + ("A" if token[-2] != "A" else "B") + token[-1]

        for request in (
            pb.ListItemsRequest(page_token=changed),
            pb.ListItemsRequest(page_token=token, filter="price > 1"),
            pb.ListItemsRequest(page_token=token, order_by="name"),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await listed(items.ListItems(request))
            assert refused.value.code() is StatusCode.INVALID_ARGUMENT


class TestSearchItems:
    async def test_pages_have_everything_once(self, items: "Stub", engine: AsyncEngine, clock: Any) -> None:
        await fill(engine, clock, 23)
        found: list[str] = []
        token = ""
        while True:
            page = await items.SearchItems(
                pb.SearchItemsRequest(page_size=5, page_token=token, filter="quantity != 3", order_by="price desc")
            )
            found += [item.name for item in page.items]
            token = page.next_page_token
            if not token:
                break

        expected = sorted((n for n in range(23) if n != 3), key=lambda n: -(n % 5))
        assert [int(name[5:]) % 5 for name in found] == [n % 5 for n in expected]
        assert {int(name[5:]) for name in found} == set(expected)

    async def test_a_page_has_50_unless_told_and_1000_at_most(
        self, items: "Stub", engine: AsyncEngine, clock: Any
    ) -> None:
        await fill(engine, clock, 1_010)

        assert len((await items.SearchItems(pb.SearchItemsRequest())).items) == 50
        assert len((await items.SearchItems(pb.SearchItemsRequest(page_size=5_000))).items) == 1_000


def a_lamp(number: int, **changes: Any) -> pb.CreateItemRequest:
    values: dict[str, Any] = {"name": f"Lamp {number}", "sku": f"L-{number}", "quantity": number, "price": 9.5}
    return pb.CreateItemRequest(**(values | changes))


class TestBatchCreateItems:
    async def test_creates_all_in_their_order(self, items: "Stub") -> None:
        response = await items.BatchCreateItems(a_lamp(n) for n in range(30))

        assert response.created_count == 30
        found = [await items.GetItem(pb.GetItemRequest(id=item_id)) for item_id in response.created_ids]
        assert [item.name for item in found] == [f"Lamp {n}" for n in range(30)]
        assert not response.errors

    async def test_nothing_is_nothing(self, items: "Stub") -> None:
        assert await items.BatchCreateItems(iter([])) == pb.BatchCreateResponse()

    async def test_bad_items_are_named_by_their_place_and_the_others_are_created(self, items: "Stub") -> None:
        await items.CreateItem(a_lamp(999))
        requests = [a_lamp(n) for n in range(20)]
        requests[3] = a_lamp(3, name="")
        requests[8] = a_lamp(8, sku="L-999")
        requests[9] = a_lamp(9, sku="L-2")
        requests[17] = a_lamp(17, name="", quantity=-1)

        response = await items.BatchCreateItems(iter(requests))

        assert response.created_count == len(response.created_ids) == 16
        assert [(error.code, error.field) for error in response.errors] == [
            ("INVALID_ARGUMENT", "[3].name"),
            ("ALREADY_EXISTS", "[8].sku"),
            ("ALREADY_EXISTS", "[9].sku"),
            ("INVALID_ARGUMENT", "[17].name"),
            ("INVALID_ARGUMENT", "[17].quantity"),
        ]

    async def test_of_two_with_one_sku_the_first_is_created(self, items: "Stub") -> None:
        response = await items.BatchCreateItems(iter([a_lamp(1, name="first"), a_lamp(1, name="second")]))

        (item_id,) = response.created_ids
        assert (await items.GetItem(pb.GetItemRequest(id=item_id))).name == "first"
        assert [error.field for error in response.errors] == ["[1].sku"]

    async def test_a_repeat_creates_nothing_and_answers_the_same(self, items: "Stub") -> None:
        requests = [a_lamp(n, request_id=str(uuid.uuid4())) for n in range(20)]
        first = await items.BatchCreateItems(iter(requests[:12]))

        second = await items.BatchCreateItems(iter([*requests, requests[0]]))

        assert second.created_ids[:12] == first.created_ids
        assert second.created_ids[20] == first.created_ids[0]
        assert len(set(second.created_ids)) == 20
        assert not second.errors

    async def test_a_request_id_of_another_item_is_named(self, items: "Stub") -> None:
        request_id = str(uuid.uuid4())

        response = await items.BatchCreateItems(
            iter([a_lamp(1, request_id=request_id), a_lamp(2, request_id=request_id)])
        )

        assert response.created_count == 1
        assert [error.field for error in response.errors] == ["[1].request_id"]

    async def test_too_many_are_refused_and_the_first_are_created(self, items: "Stub") -> None:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await items.BatchCreateItems(a_lamp(n) for n in range(STREAMS.batch_items + 1))

        assert refused.value.code() is StatusCode.INVALID_ARGUMENT
        assert (refused.value.details() or "").startswith("a call may create 1000 items")
        found, _ = await listed(items.ListItems(pb.ListItemsRequest()))
        assert len(found) == STREAMS.batch_items

    async def test_a_caller_who_leaves_midway_leaves_whole_transactions(self, items: "Stub") -> None:
        sent = asyncio.Event()

        async def requests() -> AsyncIterator[pb.CreateItemRequest]:
            for n in range(24):
                yield a_lamp(n)
            sent.set()
            await asyncio.Event().wait()

        call = items.BatchCreateItems(requests())
        await sent.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

        found, _ = await listed(items.ListItems(pb.ListItemsRequest()))
        assert len(found) % STREAMS.transaction_items == 0

    async def test_two_with_the_same_items_in_opposite_order_lock_nobody_out(self, items: "Stub") -> None:
        requests = [a_lamp(n) for n in range(70)]

        one, other = await asyncio.gather(
            items.BatchCreateItems(iter(requests)), items.BatchCreateItems(reversed(requests))
        )

        assert one.created_count + other.created_count == 70
        assert {error.code for error in [*one.errors, *other.errors]} <= {"ALREADY_EXISTS"}


def upsert(item_id: str, number: int, **changes: Any) -> pb.ItemSyncRequest:
    values: dict[str, Any] = {"name": f"Lamp {number}", "sku": f"L-{item_id}", "quantity": number, "price": 1}
    return pb.ItemSyncRequest(upsert=pb.Item(id=item_id, **(values | changes)))


class TestSyncItems:
    async def test_answers_each_action_in_its_order(self, items: "Stub") -> None:
        actions = [
            upsert("a", 1),
            upsert("b", 2),
            upsert("a", 3),
            pb.ItemSyncRequest(delete_id="b"),
            pb.ItemSyncRequest(delete_id="b"),
            upsert("c", -1),
            pb.ItemSyncRequest(),
            upsert("a", 4, etag='"0"'),
            upsert("a", 4, sku="other"),
            upsert("d", 4, sku="L-a"),
            upsert("", 5),
        ]

        answers = [answer async for answer in items.SyncItems(iter(actions))]

        assert [answer.index for answer in answers] == list(range(11))
        assert [(answer.id, answer.success, answer.error.code, answer.error.field) for answer in answers[:10]] == [
            ("a", True, "", ""),
            ("b", True, "", ""),
            ("a", True, "", ""),
            ("b", True, "", ""),
            ("b", False, "NOT_FOUND", "id"),
            ("", False, "INVALID_ARGUMENT", "[5].upsert.quantity"),
            ("", False, "INVALID_ARGUMENT", "[6].action"),
            ("a", False, "ABORTED", "etag"),
            ("a", False, "INVALID_ARGUMENT", "sku"),
            ("d", False, "ALREADY_EXISTS", "sku"),
        ]
        assert answers[10].success
        assert len(answers[10].id) == 36
        item = await items.GetItem(pb.GetItemRequest(id="a"))
        assert (item.name, item.quantity, item.is_active) == ("Lamp 3", 3, False)

    async def test_answers_while_more_may_come(self, items: "Stub") -> None:
        call = items.SyncItems()
        for number in range(5):
            await call.write(upsert("a", number))
            answer = await asyncio.wait_for(call.read(), 10)
            assert (answer.index, answer.success) == (number, True)
        await call.done_writing()

        assert await call.read() is grpc.aio.EOF

    async def test_what_is_as_wanted_already_is_not_changed(self, items: "Stub") -> None:
        first = [answer async for answer in items.SyncItems(iter([upsert("a", 1)]))]
        item = await items.GetItem(pb.GetItemRequest(id="a"))

        second = [answer async for answer in items.SyncItems(iter([upsert("a", 1)]))]

        assert first == second
        assert await items.GetItem(pb.GetItemRequest(id="a")) == item

    async def test_a_caller_who_does_not_read_is_not_read_either(self, engine: AsyncEngine, clock: Any) -> None:
        """Back-pressure: the server takes no more than it can answer and the network holds."""
        sent, most = 0, 50_000

        async def write() -> None:
            nonlocal sent
            for _ in range(most):
                await call.write(upsert("a", -1, description="x" * 500))  # refused, which is answered at length
                sent += 1

        window = [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 65_535)]  # it would grow with the load
        async with serving(engine, clock, options=window) as items:
            call = items.SyncItems()
            writing = asyncio.create_task(write())
            before = -1
            while sent != before:  # until nothing moves
                before = sent
                await asyncio.sleep(0.5)

            assert 0 < sent < most
            assert not writing.done()
            writing.cancel()
            call.cancel()
            await asyncio.gather(writing, return_exceptions=True)

    async def test_two_who_create_one_item_at_once(self, items: "Stub") -> None:
        async def sync(name: str) -> Sequence[pb.ItemSyncResponse]:
            return [answer async for answer in items.SyncItems(upsert("a", n, name=name) for n in range(10))]

        answers = await asyncio.gather(*(sync(name) for name in ("one", "two", "three")))

        assert all(answer.success for each in answers for answer in each)


class TestWatchItems:
    async def test_begins_with_a_token_and_tells_every_change(self, items: "Stub") -> None:
        watch = items.WatchItems(pb.WatchItemsRequest())
        first = await watch.read()
        item = await items.CreateItem(a_lamp(1))
        changed = await items.UpdateItem(pb.UpdateItemRequest(id=item.id, quantity=7))
        await items.DeleteItem(pb.DeleteItemRequest(id=item.id))

        seen = await changes(watch, 3)

        assert first.WhichOneof("event") == "heartbeat"
        assert [(each.change.kind, each.change.item) for each in seen] == [
            (pb.ITEM_CHANGE_KIND_CREATED, item),
            (pb.ITEM_CHANGE_KIND_UPDATED, changed),
            (pb.ITEM_CHANGE_KIND_DELETED, changed),
        ]
        watch.cancel()

    async def test_goes_on_from_a_token(self, items: "Stub") -> None:
        watch = items.WatchItems(pb.WatchItemsRequest())
        await watch.read()
        for number in range(6):
            await items.CreateItem(a_lamp(number))
        token = (await changes(watch, 3))[-1].resume_token
        watch.cancel()

        again = items.WatchItems(pb.WatchItemsRequest(resume_token=token))

        assert [each.change.item.name for each in await changes(again, 3)] == ["Lamp 3", "Lamp 4", "Lamp 5"]
        again.cancel()

    async def test_a_quiet_watch_has_heartbeats_to_go_on_from(self, items: "Stub") -> None:
        watch = items.WatchItems(pb.WatchItemsRequest())
        beats = [await asyncio.wait_for(watch.read(), 10) for _ in range(3)]
        watch.cancel()
        await items.CreateItem(a_lamp(1))

        again = items.WatchItems(pb.WatchItemsRequest(resume_token=beats[2].resume_token))

        assert all(beat.WhichOneof("event") == "heartbeat" for beat in beats)
        assert (await changes(again, 1))[0].change.item.name == "Lamp 1"
        again.cancel()

    async def test_changes_of_another_process_are_seen(self, items: "Stub", engine: AsyncEngine, clock: Any) -> None:
        watch = items.WatchItems(pb.WatchItemsRequest())
        await watch.read()
        async with serving(engine, clock) as others:
            await others.CreateItem(a_lamp(1))

        assert (await changes(watch, 1))[0].change.item.name == "Lamp 1"
        watch.cancel()

    async def test_a_token_too_old_ends_the_watch_and_says_what_to_do(
        self, items: "Stub", engine: AsyncEngine, clock: Any
    ) -> None:
        watch = items.WatchItems(pb.WatchItemsRequest())
        token = (await watch.read()).resume_token
        await items.CreateItem(a_lamp(1))
        await changes(watch, 1)
        watch.cancel()
        log = ChangeLog(engine)
        while await log.trim(clock() + timedelta(days=1), 0):
            pass

        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await items.WatchItems(pb.WatchItemsRequest(resume_token=token)).read()

        assert ended.value.code() is StatusCode.OUT_OF_RANGE
        assert "read all items anew" in (ended.value.details() or "")

    @pytest.mark.parametrize("token", ["nonsense", "A" * 1024])
    async def test_a_token_that_is_none(self, items: "Stub", token: str) -> None:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await items.WatchItems(pb.WatchItemsRequest(resume_token=token)).read()

        assert refused.value.code() is StatusCode.INVALID_ARGUMENT
        assert field_of(refused.value) == "resume_token"

    async def test_a_page_token_is_no_resume_token(self, items: "Stub", engine: AsyncEngine, clock: Any) -> None:
        await fill(engine, clock, 3)
        page = await items.SearchItems(pb.SearchItemsRequest(page_size=1))

        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await items.WatchItems(pb.WatchItemsRequest(resume_token=page.next_page_token)).read()

        assert refused.value.code() is StatusCode.INVALID_ARGUMENT


async def changes(watch: Any, count: int) -> list[pb.WatchItemsResponse]:
    """Returns the next changes, without the heartbeats between them."""
    found: list[pb.WatchItemsResponse] = []
    async with asyncio.timeout(20):
        while len(found) < count:
            response = await watch.read()
            if response.WhichOneof("event") == "change":
                found.append(response)
    return found
