"""BaseServicer: a use case by its type, or a sentence that says what is missing."""

from typing import Protocol

import pytest
from grpc import StatusCode

from grpc_common.servicer import BaseServicer, UnknownUseCaseError
from grpc_common.testing import in_process
from meshwork.items.v1 import items_service_pb2 as pb
from meshwork.items.v1 import items_service_pb2_grpc as rpc


class FindItem:
    async def __call__(self, id_):
        return pb.Item(id=id_)


class FindItemQuickly(FindItem):
    pass


class Clock(Protocol):
    def now(self) -> float: ...


class StoppedClock:
    def now(self):
        return 0.0


class Items(BaseServicer, rpc.ItemServiceServicer):
    async def GetItem(self, request, context):
        return await self.get_use_case(FindItem)(request.id)


def register(items):
    return lambda server: rpc.add_ItemServiceServicer_to_server(items, server)


@pytest.mark.parametrize("find", [FindItem(), FindItemQuickly()])
async def test_a_use_case_does_the_work(find):
    async with in_process(register(Items({FindItem: find}))) as channel:
        assert (await rpc.ItemServiceStub(channel).GetItem(pb.GetItemRequest(id="7"))).id == "7"


def test_what_stands_under_a_protocol_is_found_by_it():
    clock = StoppedClock()
    assert BaseServicer({Clock: clock}).get_use_case(Clock) is clock


@pytest.mark.parametrize(("given", "known"), [({Clock: StoppedClock()}, "Clock"), ({}, "none")])
def test_an_unknown_use_case(given, known):
    with pytest.raises(UnknownUseCaseError) as caught:
        Items(given).get_use_case(FindItem)
    assert str(caught.value) == f"Items was not given {__name__}.FindItem; its use cases: {known}"


async def test_callers_learn_nothing_of_a_use_case_that_is_missing():
    async with in_process(register(Items({}))) as channel:
        call = rpc.ItemServiceStub(channel).GetItem(pb.GetItemRequest(id="7"))
        assert await call.code() is StatusCode.INTERNAL
        assert "FindItem" not in await call.details()


def test_a_use_case_of_another_class_is_refused():
    with pytest.raises(TypeError, match="StoppedClock is given as FindItem, which it is not"):
        BaseServicer({FindItem: StoppedClock()})


def test_later_changes_of_the_mapping_change_nothing():
    given = {FindItem: FindItem()}
    items = BaseServicer(given)
    given.clear()
    assert items.get_use_case(FindItem)
