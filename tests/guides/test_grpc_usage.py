"""The guide to calling services does what it says, as it stands there."""

import ast
import inspect
import re
from pathlib import Path

import grpc.aio
import pytest

import grpc_common.client.factory  # the guide imports it
import grpc_common.client.remote_error  # noqa: F401  # and that
from grpc_common.chain import Chain
from grpc_common.client.probe import Cause
from grpc_common.default_chain import default_interceptors
from grpc_common.errors import NotFoundError
from grpc_common.settings import GRPCClientSettings
from meshwork.items.v1 import items_service_pb2 as pb
from meshwork.items.v1 import items_service_pb2_grpc as rpc

GUIDE = (Path(__file__).parents[2] / "docs" / "guides" / "grpc-usage.md").read_text()


class Items(rpc.ItemServiceServicer):
    """As much of the service as the guide calls."""

    async def GetItem(self, request, context):
        if request.id != "mug":
            raise NotFoundError(f"there is no item {request.id}")
        return pb.Item(id=request.id)

    async def CreateItem(self, request, context):
        return pb.Item(name=request.name)

    async def ListItems(self, request, context):
        for number in range(request.page_size):
            yield pb.Item(id=str(number))

    async def BatchCreateItems(self, request_iterator, context):
        count = 0
        async for _ in request_iterator:
            count += 1
        return pb.BatchCreateResponse(created_count=count)


@pytest.fixture
async def target():
    server = grpc.aio.server(interceptors=[Chain(default_interceptors())])
    rpc.add_ItemServiceServicer_to_server(Items(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield f"127.0.0.1:{port}"
    await server.stop(None)


async def test_the_code(target, capsys):
    names = {"target": target}
    for code in re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL):
        block = compile(code, "grpc-usage.md", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        running = eval(block, names)  # noqa: S307
        if inspect.isawaitable(running):
            await running
    told = [line for line in capsys.readouterr().out.splitlines() if not line.startswith("20")]  # log lines
    assert told == [
        "NOT_FOUND NOT_FOUND there is no item nothing",
        "['name', 'sku']",
        "NOTHING_LISTENS",
    ]
    assert names["mug"].id == "mug"
    assert names["first"].id == "0"
    assert names["report"].created_count == 3


def test_the_settings_are_all_there():
    (table,) = re.findall(r"\| setting \|.*?\n\n", GUIDE, re.DOTALL)
    first = " ".join(row.split("|")[1] for row in table.splitlines() if row)
    assert set(re.findall(r"`(\w+)`", first)) == set(GRPCClientSettings.model_fields)


def test_the_causes_are_all_there():
    assert {cause for cause in Cause if f"`{cause}`" not in GUIDE} <= {Cause.CLOSED_BY_PEER}
