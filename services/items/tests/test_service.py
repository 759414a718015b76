"""The service as its callers see it, on PostgreSQL and on SQLite."""

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from buf.validate import validate_pb2
from google.protobuf.empty_pb2 import Empty
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2, status_pb2
from grpc import StatusCode
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from grpc_common.errors import ValidationError
from grpc_common.new_id import new_id
from grpc_common.testing import bearer
from grpc_common.token_maker import TokenMaker
from items.item import NewItem, checked_id
from items.mapper import ItemMapper
from items.table import ITEMS
from meshwork.common.v1.errors_pb2 import ErrorDetail
from meshwork.items.v1 import items_service_pb2 as pb
from serving import reached, serving

if TYPE_CHECKING:  # there is no such class at run time
    from meshwork.items.v1.items_service_pb2_grpc import ItemServiceAsyncStub as Stub

type Call = Awaitable[Any]


def a_lamp(**changes: Any) -> pb.CreateItemRequest:
    values: dict[str, Any] = {"name": "Lamp", "description": "of brass", "sku": "L-1", "quantity": 3, "price": 9.5}
    return pb.CreateItemRequest(**(values | changes))


async def refusal(call: Call) -> tuple[StatusCode, ErrorDetail, list[str]]:
    """Returns the status of a call that fails, its ErrorDetail, and the fields its BadRequest names."""
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await call
    trailers = dict(failed.value.trailing_metadata() or ())
    detail = ErrorDetail.FromString(trailers["error-detail-bin"])
    status = status_pb2.Status.FromString(trailers["grpc-status-details-bin"])
    assert status.code == failed.value.code().value[0]
    assert status.message == detail.message == failed.value.details()
    fields: list[str] = []
    for packed in status.details:
        bad_request, info = error_details_pb2.BadRequest(), error_details_pb2.ErrorInfo()
        if packed.Unpack(bad_request):
            fields = [violation.field for violation in bad_request.field_violations]
        if packed.Unpack(info):
            assert info.reason == detail.code
    return failed.value.code(), detail, fields


@asynccontextmanager
async def nothing_written(engine: AsyncEngine) -> AsyncIterator[None]:
    async def everything() -> Any:
        async with engine.connect() as connection:
            return (await connection.execute(select(ITEMS).order_by(ITEMS.c.id))).all()

    before = await everything()
    yield
    assert await everything() == before


class TestCreateItem:
    async def test_answers_the_item_with_its_id_and_times(self, items: "Stub", clock: Any) -> None:
        item = await items.CreateItem(a_lamp())

        assert len(item.id) == 36
        assert (item.name, item.description, item.sku) == ("Lamp", "of brass", "L-1")
        assert (item.quantity, item.price, item.is_active) == (3, 9.5, True)
        assert at(item.created_at) == at(item.updated_at) == clock.now

    async def test_keeps_the_item(self, items: "Stub") -> None:
        item = await items.CreateItem(a_lamp())

        assert await items.GetItem(pb.GetItemRequest(id=item.id)) == item

    async def test_a_sku_that_is_taken(self, items: "Stub", engine: AsyncEngine) -> None:
        await items.CreateItem(a_lamp())

        async with nothing_written(engine):
            status, detail, _ = await refusal(items.CreateItem(a_lamp(name="Other")))

        assert status is StatusCode.ALREADY_EXISTS
        assert (detail.code, detail.field) == ("ALREADY_EXISTS", "sku")
        assert detail.message == "another item has this sku"

    async def test_of_many_with_one_sku_at_once_one_wins(self, items: "Stub", engine: AsyncEngine) -> None:
        calls = [items.CreateItem(a_lamp(name=f"Lamp {number}")) for number in range(20)]

        outcomes = await asyncio.gather(*calls, return_exceptions=True)

        (winner,) = [outcome for outcome in outcomes if isinstance(outcome, pb.Item)]
        losers = [outcome.code() for outcome in outcomes if isinstance(outcome, grpc.aio.AioRpcError)]
        assert losers == [StatusCode.ALREADY_EXISTS] * 19
        assert await items.GetItem(pb.GetItemRequest(id=winner.id)) == winner

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("name", ""),
            ("name", "x" * 201),
            ("name", "a\x00b"),
            ("name", "a\x1bb"),
            ("description", "x" * 2001),
            ("description", "a\x00b"),
            ("sku", ""),
            ("sku", "x" * 65),
            ("sku", "' OR 1=1"),
            ("quantity", -1),
            ("price", -0.01),
            ("price", math.nan),
            ("price", math.inf),
            ("price", -math.inf),
        ],
    )
    async def test_a_bad_field(self, items: "Stub", engine: AsyncEngine, field: str, value: object) -> None:
        async with nothing_written(engine):
            status, detail, fields = await refusal(items.CreateItem(a_lamp(**{field: value})))

        assert status is StatusCode.INVALID_ARGUMENT
        assert (detail.code, detail.field, fields) == ("INVALID_ARGUMENT", field, [field])

    @pytest.mark.parametrize("data", [b"\x0a\x01\xff", b"\x0a\x05abc", b"\x0a\x02\xed\xa0", b"\xff"])
    async def test_bytes_that_are_no_request(self, engine: AsyncEngine, clock: Any, data: bytes) -> None:
        """Invalid UTF-8 in the name, too few bytes, half a surrogate, no field at all."""
        async with reached(engine, clock) as channel, nothing_written(engine):
            call = channel.unary_unary("/meshwork.items.v1.ItemService/CreateItem")
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await call(data)
        assert refused.value.code() is StatusCode.INVALID_ARGUMENT
        assert "CreateItemRequest" not in str(refused.value.details())

    async def test_every_bad_field_is_named(self, items: "Stub", engine: AsyncEngine) -> None:
        request = pb.CreateItemRequest(description="\x00", quantity=-1, price=math.nan)

        async with nothing_written(engine):
            status, detail, fields = await refusal(items.CreateItem(request))

        assert status is StatusCode.INVALID_ARGUMENT
        assert detail.field == "name"
        assert fields == ["name", "description", "sku", "quantity", "price"]

    @pytest.mark.parametrize(
        "text",
        [
            "'; DROP TABLE items; --",
            "Robert'); DELETE FROM items WHERE ('1'='1",
            '"; \\copy items to program',
            "%s %(name)s :name $1 ? {0} {{name}}",
            "<script>alert(1)</script>",
            "\\x00 \\u0000 %00",
            "${jndi:ldap://x}",
        ],
    )
    async def test_code_in_a_text_is_only_text(self, items: "Stub", text: str) -> None:
        item = await items.CreateItem(a_lamp(name=text, description=text))

        kept = await items.GetItem(pb.GetItemRequest(id=item.id))

        assert (kept.name, kept.description) == (text, text)


class TestGetItem:
    async def test_an_item_that_is_not_there(self, items: "Stub") -> None:
        status, detail, _ = await refusal(items.GetItem(pb.GetItemRequest(id="nobody")))

        assert status is StatusCode.NOT_FOUND
        assert (detail.code, detail.field) == ("NOT_FOUND", "id")
        assert detail.message == "there is no item nobody"

    @pytest.mark.parametrize("bad", ["", "x" * 65, "a\x00"])
    async def test_an_id_that_no_item_can_have(self, items: "Stub", bad: str) -> None:
        status, detail, fields = await refusal(items.GetItem(pb.GetItemRequest(id=bad)))

        assert status is StatusCode.INVALID_ARGUMENT
        assert (detail.field, fields) == ("id", ["id"])

    async def test_code_in_the_id_finds_nothing(self, items: "Stub") -> None:
        await items.CreateItem(a_lamp())

        status, _, _ = await refusal(items.GetItem(pb.GetItemRequest(id="' OR '1'='1")))

        assert status is StatusCode.NOT_FOUND


class TestUpdateItem:
    async def test_changes_what_is_present_and_nothing_else(self, items: "Stub", clock: Any) -> None:
        item = await items.CreateItem(a_lamp())
        clock.move(seconds=1)

        changed = await items.UpdateItem(pb.UpdateItemRequest(id=item.id, name="Lantern"))

        item.name = "Lantern"
        item.updated_at.FromDatetime(clock.now)
        assert changed.etag != item.etag
        item.etag = changed.etag
        assert changed == item
        assert await items.GetItem(pb.GetItemRequest(id=item.id)) == item

    async def test_present_and_empty_is_empty(self, items: "Stub") -> None:
        item = await items.CreateItem(a_lamp())

        changed = await items.UpdateItem(pb.UpdateItemRequest(id=item.id, description="", quantity=0, price=0))

        assert (changed.name, changed.description, changed.quantity, changed.price) == ("Lamp", "", 0, 0)

    async def test_nothing_present_changes_nothing(self, items: "Stub", clock: Any) -> None:
        item = await items.CreateItem(a_lamp())
        clock.move(seconds=1)

        assert await items.UpdateItem(pb.UpdateItemRequest(id=item.id)) == item

    async def test_a_clock_that_goes_back_does_not_take_the_time_of_change_with_it(
        self, items: "Stub", clock: Any
    ) -> None:
        item = await items.CreateItem(a_lamp())
        clock.move(seconds=-60)

        changed = await items.UpdateItem(pb.UpdateItemRequest(id=item.id, quantity=1))

        assert (changed.quantity, changed.updated_at) == (1, item.updated_at)

    async def test_an_item_that_is_not_there(self, items: "Stub", engine: AsyncEngine) -> None:
        async with nothing_written(engine):
            status, detail, _ = await refusal(items.UpdateItem(pb.UpdateItemRequest(id="nobody", name="x")))

        assert (status, detail.code, detail.field) == (StatusCode.NOT_FOUND, "NOT_FOUND", "id")

    async def test_every_bad_field_is_named_and_nothing_is_written(self, items: "Stub", engine: AsyncEngine) -> None:
        item = await items.CreateItem(a_lamp())
        request = pb.UpdateItemRequest(id=item.id, name="", description="fine", quantity=-1, price=math.inf)

        async with nothing_written(engine):
            status, detail, fields = await refusal(items.UpdateItem(request))

        assert (status, detail.code) == (StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT")
        assert fields == ["name", "quantity", "price"]

    async def test_a_bad_id_is_named_with_the_other_fields(self, items: "Stub") -> None:
        _, _, fields = await refusal(items.UpdateItem(pb.UpdateItemRequest(name="")))

        assert fields == ["id", "name"]

    async def test_changes_of_different_fields_at_once_are_all_kept(self, items: "Stub") -> None:
        item = await items.CreateItem(a_lamp())

        await asyncio.gather(
            items.UpdateItem(pb.UpdateItemRequest(id=item.id, name="Lantern")),
            items.UpdateItem(pb.UpdateItemRequest(id=item.id, description="of tin")),
            items.UpdateItem(pb.UpdateItemRequest(id=item.id, quantity=7)),
            items.UpdateItem(pb.UpdateItemRequest(id=item.id, price=1.25)),
        )

        kept = await items.GetItem(pb.GetItemRequest(id=item.id))
        assert (kept.name, kept.description, kept.quantity, kept.price) == ("Lantern", "of tin", 7, 1.25)


class TestEtag:
    async def test_an_update_with_the_etag_of_the_item_is_done_and_makes_another(self, items: "Stub") -> None:
        item = await items.CreateItem(a_lamp())

        changed = await items.UpdateItem(pb.UpdateItemRequest(id=item.id, quantity=7, etag=item.etag))

        assert changed.quantity == 7
        assert changed.etag != item.etag
        assert item.etag[0] == item.etag[-1] == '"'

    @pytest.mark.parametrize("fields", [{"quantity": 8}, {}], ids=["a field", "nothing"])
    @pytest.mark.parametrize("etag", ["stale", '"0"', "W/x", '"' + "f" * 60 + '"', "';DROP--"])
    async def test_an_update_with_another_etag_is_aborted(
        self, items: "Stub", engine: AsyncEngine, etag: str, fields: dict[str, int]
    ) -> None:
        item = await items.CreateItem(a_lamp())
        await items.UpdateItem(pb.UpdateItemRequest(id=item.id, quantity=7))
        etag = item.etag if etag == "stale" else etag

        async with nothing_written(engine):
            status, detail, _ = await refusal(items.UpdateItem(pb.UpdateItemRequest(id=item.id, etag=etag, **fields)))

        assert (status, detail.code, detail.field) == (StatusCode.ABORTED, "ABORTED", "etag")

    async def test_a_deletion_with_a_stale_etag_is_aborted(self, items: "Stub", engine: AsyncEngine) -> None:
        item = await items.CreateItem(a_lamp())
        changed = await items.UpdateItem(pb.UpdateItemRequest(id=item.id, quantity=7))

        async with nothing_written(engine):
            status, _, _ = await refusal(items.DeleteItem(pb.DeleteItemRequest(id=item.id, etag=item.etag)))
        await items.DeleteItem(pb.DeleteItemRequest(id=item.id, etag=changed.etag))

        assert status is StatusCode.ABORTED

    async def test_the_etag_of_an_item_that_is_gone_is_not_found(self, items: "Stub") -> None:
        status, _, _ = await refusal(items.DeleteItem(pb.DeleteItemRequest(id="nobody", etag='"1"')))

        assert status is StatusCode.NOT_FOUND

    async def test_updates_at_once_never_lose_one(self, items: "Stub") -> None:
        """Everybody reads, adds one and writes with the etag, until it is done."""
        item = await items.CreateItem(a_lamp(quantity=0))

        async def add_one() -> int:
            tries = 0
            while True:
                tries += 1
                read = await items.GetItem(pb.GetItemRequest(id=item.id))
                change = pb.UpdateItemRequest(id=item.id, quantity=read.quantity + 1, etag=read.etag)
                try:
                    await items.UpdateItem(change)
                except grpc.aio.AioRpcError as error:
                    assert error.code() is StatusCode.ABORTED
                else:
                    return tries

        tries = await asyncio.gather(*(add_one() for _ in range(12)))

        assert (await items.GetItem(pb.GetItemRequest(id=item.id))).quantity == 12
        assert sum(tries) > 12


class TestRequestId:
    ID = "9a6c3a52-6d0d-4a77-9d0e-3f6d5d0c9a01"

    async def test_a_repeat_returns_what_the_first_created(self, items: "Stub", clock: Any) -> None:
        first = await items.CreateItem(a_lamp(request_id=self.ID))
        await items.UpdateItem(pb.UpdateItemRequest(id=first.id, name="Lantern"))
        clock.move(seconds=60)

        assert await items.CreateItem(a_lamp(request_id=self.ID.upper())) == first

    async def test_a_repeat_after_the_item_is_gone_creates_nothing(self, items: "Stub", engine: AsyncEngine) -> None:
        first = await items.CreateItem(a_lamp(request_id=self.ID))
        await items.DeleteItem(pb.DeleteItemRequest(id=first.id))

        async with nothing_written(engine):
            assert await items.CreateItem(a_lamp(request_id=self.ID)) == first

    async def test_of_many_at_once_all_get_the_one_item(self, items: "Stub") -> None:
        found = await asyncio.gather(*(items.CreateItem(a_lamp(request_id=self.ID)) for _ in range(20)))

        assert {item.id for item in found} == {found[0].id}

    async def test_another_request_with_the_same_id_is_refused(self, items: "Stub", engine: AsyncEngine) -> None:
        await items.CreateItem(a_lamp(request_id=self.ID))

        async with nothing_written(engine):
            status, detail, _ = await refusal(items.CreateItem(a_lamp(sku="L-2", request_id=self.ID)))

        assert (status, detail.field) == (StatusCode.INVALID_ARGUMENT, "request_id")

    async def test_a_request_that_failed_may_come_again(self, items: "Stub") -> None:
        other = await items.CreateItem(a_lamp())
        status, _, _ = await refusal(items.CreateItem(a_lamp(request_id=self.ID)))
        await items.DeleteItem(pb.DeleteItemRequest(id=other.id))

        item = await items.CreateItem(a_lamp(request_id=self.ID))

        assert status is StatusCode.ALREADY_EXISTS
        assert item.id != other.id

    @pytest.mark.parametrize("bad", ["1", "018f3f6e-7b1a-7cc0-9a43-2f2f6c1d2e3f", "9a6c3a526d0d4a779d0e3f6d5d0c9a01"])
    async def test_an_id_that_is_no_uuid_of_version_4(self, items: "Stub", bad: str) -> None:
        status, detail, _ = await refusal(items.CreateItem(a_lamp(request_id=bad)))

        assert (status, detail.field) == (StatusCode.INVALID_ARGUMENT, "request_id")

    async def test_the_ids_of_two_callers_are_apart(self, engine: AsyncEngine, clock: Any) -> None:
        maker = TokenMaker()
        ann, bob = (bearer(maker.token(name, roles=["editor"])) for name in ("ann", "bob"))
        async with serving(engine, clock, issuer=maker) as items:
            await items.CreateItem(a_lamp(request_id=self.ID), metadata=ann)
            status, detail, _ = await refusal(items.CreateItem(a_lamp(request_id=self.ID), metadata=bob))

        assert (status, detail.field) == (StatusCode.ALREADY_EXISTS, "sku")


class TestDeleteItem:
    async def test_removes_the_item(self, items: "Stub") -> None:
        item = await items.CreateItem(a_lamp())

        assert await items.DeleteItem(pb.DeleteItemRequest(id=item.id)) == Empty()

        status, _, _ = await refusal(items.GetItem(pb.GetItemRequest(id=item.id)))
        assert status is StatusCode.NOT_FOUND

    async def test_an_item_that_is_not_there(self, items: "Stub", engine: AsyncEngine) -> None:
        await items.CreateItem(a_lamp())

        async with nothing_written(engine):
            status, detail, _ = await refusal(items.DeleteItem(pb.DeleteItemRequest(id="nobody")))

        assert (status, detail.code, detail.field) == (StatusCode.NOT_FOUND, "NOT_FOUND", "id")

    @pytest.mark.parametrize("bad", ["", "x" * 65])
    async def test_an_id_that_no_item_can_have(self, items: "Stub", bad: str) -> None:
        status, _, fields = await refusal(items.DeleteItem(pb.DeleteItemRequest(id=bad)))

        assert (status, fields) == (StatusCode.INVALID_ARGUMENT, ["id"])


UNSEEN = [
    " ",
    " \u3000",
    "\u200b",
    "\u200d",
    "\ufeff",
    "\u202e",
    "\u2066",
    "\u200f",
    "\u00ad",
    "\u0301",
    "\ufe0f",
    "\u3164",
]
UNSEEN += ["\u2800", "\U000e0041", "\ue000", "\ufdd0", "\u2028"]
SEEN = ["a", "é", "e\u0301", "٣", "の", "שלום\u200f", "क्\u200dष", "🏳️\u200d🌈", "♥️", "-", "\u200bx"]


class TestNamesThatCannotBeSeen:
    @pytest.mark.parametrize("name", UNSEEN)
    async def test_are_refused_by_everything_that_takes_one(self, items: "Stub", name: str) -> None:
        made = await items.CreateItem(a_lamp(sku=new_id()))
        for call in (
            items.CreateItem(a_lamp(sku=new_id(), name=name)),
            items.UpdateItem(pb.UpdateItemRequest(id=made.id, name=name)),
        ):
            status, _, fields = await refusal(call)
            assert (status, fields) == (StatusCode.INVALID_ARGUMENT, ["name"])
        batch = await items.BatchCreateItems(iter([a_lamp(sku=new_id(), name=name)]))
        assert [error.field for error in batch.errors] == ["[0].name"]
        upsert = pb.ItemSyncRequest(upsert=pb.Item(name=name, sku=new_id()))
        assert [reply.error.field async for reply in items.SyncItems(iter([upsert]))] == ["[0].upsert.name"]
        with pytest.raises(ValidationError):
            NewItem(name=name, description="", sku="S", quantity=0, price=0)

    @pytest.mark.parametrize("name", SEEN)
    async def test_and_those_that_can_are_taken(self, items: "Stub", name: str) -> None:
        assert (await items.CreateItem(a_lamp(sku=new_id(), name=name))).name == name


class TestIdsThatNoUrlHas:
    @pytest.mark.parametrize("bad", [".", ".."])
    async def test_are_refused_by_everything_that_takes_one(self, items: "Stub", bad: str) -> None:
        for call in (
            items.GetItem(pb.GetItemRequest(id=bad)),
            items.UpdateItem(pb.UpdateItemRequest(id=bad, name="x")),
            items.DeleteItem(pb.DeleteItemRequest(id=bad)),
        ):
            status, _, fields = await refusal(call)
            assert (status, fields) == (StatusCode.INVALID_ARGUMENT, ["id"])
        actions = [
            pb.ItemSyncRequest(upsert=pb.Item(id=bad, name="x", sku=new_id())),
            pb.ItemSyncRequest(delete_id=bad),
        ]
        replies = [reply async for reply in items.SyncItems(iter(actions))]
        assert [reply.success for reply in replies] == [False, False]
        assert [reply.error.field for reply in replies] == ["[0].upsert.id", "[1].delete_id"]
        with pytest.raises(ValidationError):
            checked_id(bad)

    def test_one_rule_holds_for_all_fields_with_the_id_of_an_item(self) -> None:
        """Only who upserts may leave it empty."""
        file = pb.DESCRIPTOR.message_types_by_name.values()
        fields = [field for message in file for field in message.fields if field.name in {"id", "delete_id"}]
        asked = [field for field in fields if field.containing_type.name != "ItemSyncResponse"]
        rules = []
        for field in asked:
            rule = validate_pb2.StringRules()
            rule.CopyFrom(field.GetOptions().Extensions[validate_pb2.field].string)
            assert (rule.min_len == 1) == (field.containing_type.name != "Item")
            rule.ClearField("min_len")
            rules.append(rule)
        assert len(rules) == 5
        assert all(rule == rules[0] for rule in rules)


class TestAPriceOfMinusZero:
    async def test_is_zero(self, items: "Stub") -> None:
        made = await items.CreateItem(a_lamp(sku=new_id(), price=-0.0))
        changed = await items.UpdateItem(pb.UpdateItemRequest(id=made.id, price=-0.0))
        upsert = pb.ItemSyncRequest(upsert=pb.Item(id=new_id(), name="x", sku=new_id(), price=-0.0))
        (synced,) = [reply async for reply in items.SyncItems(iter([upsert]))]
        kept = await items.GetItem(pb.GetItemRequest(id=synced.id))
        for item in (made, changed, kept, await items.GetItem(pb.GetItemRequest(id=made.id))):
            assert str(item.price) == "0.0"
        listed = [item async for item in items.ListItems(pb.ListItemsRequest(filter=f"id = {made.id} price = -0.0"))]
        assert [str(item.price) for item in listed] == ["0.0"]

    def test_that_is_kept_from_before_is_shown_as_zero(self) -> None:
        item = NewItem(name="x", description="", sku="S", quantity=0, price=-0.0).become("id", datetime.now(UTC))
        assert str(ItemMapper().to_proto(item).price) == "0.0"


printable = st.characters(codec="utf-8", exclude_categories=["Cc"])


class TestAnyText:
    @given(
        name=st.text(printable, max_size=199).map("x{}".format),
        description=st.text(printable | st.sampled_from("\t\r\n"), max_size=2000),
        sku=st.from_regex(r"[A-Za-z0-9._-]{1,64}", fullmatch=True),
        quantity=st.integers(0, 2**31 - 1),
        price=st.floats(min_value=0, allow_nan=False, allow_infinity=False),
    )
    @settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    async def test_is_kept_as_it_was(self, items: "Stub", **values: Any) -> None:
        made = await items.CreateItem(pb.CreateItemRequest(**values))

        kept = await items.GetItem(pb.GetItemRequest(id=made.id))

        assert kept == made
        assert {field: getattr(kept, field) for field in values} == values
        await items.DeleteItem(pb.DeleteItemRequest(id=made.id))  # the next example may have the same sku


def at(timestamp: Timestamp) -> datetime:
    return timestamp.ToDatetime(UTC)
