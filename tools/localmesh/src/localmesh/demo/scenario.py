"""What the demo does, step by step; each step looks at the answers, and the first wrong one ends the demo."""

import asyncio
import ssl
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import grpc
import httpx

from grpc_common.loopback import NO_PROXY
from localmesh.demo.catalogue import catalogue
from localmesh.demo.findings import Findings, StepFailed, Timing, must
from localmesh.demo.refusal import Refusal
from localmesh.demo.visit import Visit
from localmesh.forge import Forge
from localmesh.mesh import Mesh
from meshwork.auth.v1.auth_service_pb2_grpc import AuthServiceStub
from meshwork.items.v1 import items_service_pb2 as pb
from meshwork.items.v1.items_service_pb2_grpc import ItemServiceStub

AT_ONCE = 16
TIMEOUT = 10.0
READ_BY_GRPC, READ_BY_REST = 100, 50
CREATED_SINGLY, STREAMS = 100, 5
PROBE_NAME = "x" * 201


class Scenario:
    """The steps, for one running mesh; `progress` is told how many items there are after each new one."""

    def __init__(self, mesh: Mesh, progress: Callable[[int, int], None]) -> None:
        self._mesh = mesh
        self._progress = progress
        self._authority = f"localhost:{mesh.port}"
        self._token = ""
        self._created: list[pb.Item] = []
        self.findings = Findings()

    async def play(self) -> None:
        """All steps; raises `StepFailed`."""
        credentials = grpc.ssl_channel_credentials(self._mesh.root_certificate)
        async with grpc.aio.secure_channel(self._authority, credentials, [NO_PROXY]) as channel, self._rest() as rest:
            stub = ItemServiceStub(channel)
            visit = Visit(AuthServiceStub(channel), await self._mesh.users.user(), self.findings)
            await visit.log_in(rest)
            await visit.refresh()
            self._token = visit.token
            await self._create(stub)
            await self._upload(stub)
            await self._stream(stub)
            await self._read_by_grpc(stub)
            await self._read_by_rest(rest)
            await self._update(stub)
            await self._delete(stub)
            await self._be_refused(stub)
            await self._be_refused_by_rest(rest)
            async with grpc.aio.insecure_channel(self._mesh.straight_to("items"), [NO_PROXY]) as straight:
                ways = {"at the ingress": stub, "past the ingress": ItemServiceStub(straight)}
                await visit.show_bad_tokens(ways, Forge(await asyncio.to_thread(self._mesh.openbao.client)))
            await visit.log_out(stub)

    async def _create(self, stub: ItemServiceStub) -> None:
        wanted = catalogue()

        async def create(request: pb.CreateItemRequest) -> None:
            item = await self._call(stub.CreateItem, request)
            must(bool(item.id) and item.sku == request.sku, f"creating {request.sku} returned {item.sku or 'nothing'}")
            self._created.append(item)
            self._progress(len(self._created), len(wanted))

        await self._timed("items created one by one", create, wanted[:CREATED_SINGLY])

    async def _upload(self, stub: ItemServiceStub) -> None:
        """The rest of the file as one stream, twice: the repeat is known by its request ids and creates nothing."""
        requests = [
            pb.CreateItemRequest(**{f.name: value for f, value in request.ListFields()}, request_id=str(uuid.uuid4()))
            for request in catalogue()[CREATED_SINGLY:]
        ]
        answers: list[pb.BatchCreateResponse] = []

        async def upload(_: int) -> None:
            answers.append(await self._call(stub.BatchCreateItems, iter(requests)))

        for name in ("uploads of the rest in one stream", "the same once more"):
            await self._timed(name, upload, [0])
        first, again = answers
        must(first.created_count == len(requests), f"the upload created {first.created_count} of {len(requests)}")
        must(again.created_ids == first.created_ids, "the repeated upload did not answer as the first one did")
        self._progress(len(self._created) + len(requests), len(catalogue()))

    async def _stream(self, stub: ItemServiceStub) -> None:
        wanted = {request.sku for request in catalogue()}

        async def stream(_: int) -> None:
            metadata = (("authorization", f"Bearer {self._token}"),)
            call: Any = stub.ListItems(pb.ListItemsRequest(), timeout=TIMEOUT, metadata=metadata)
            found = [item.sku async for item in call]
            must(sorted(found) == sorted(wanted), f"the stream had {len(found)} items, not {len(wanted)}")

        await self._timed(f"streams of all {len(wanted)} items", stream, range(STREAMS))

    async def _read_by_grpc(self, stub: ItemServiceStub) -> None:
        async def read(item: pb.Item) -> None:
            found = await self._call(stub.GetItem, pb.GetItemRequest(id=item.id))
            must(found == item, f"{item.sku} came back changed")

        await self._timed("read back by gRPC", read, self._created[:READ_BY_GRPC])

    async def _read_by_rest(self, rest: httpx.AsyncClient) -> None:
        async def read(item: pb.Item) -> None:
            answer = await rest.get(f"/v1/items/{item.id}", headers=self._bearer)
            must(answer.status_code == httpx.codes.OK, f"GET /v1/items/… answered {answer.status_code}")
            found = answer.json()
            must((found["sku"], found["price"]) == (item.sku, item.price), f"{item.sku} came back changed by REST")

        await self._timed("read back by REST", read, self._created[-READ_BY_REST:])

    async def _update(self, stub: ItemServiceStub) -> None:
        item = self._created[0]
        price = round(item.price * 0.9, 2)
        await self._call(stub.UpdateItem, pb.UpdateItemRequest(id=item.id, price=price, etag=item.etag))
        stale = pb.UpdateItemRequest(id=item.id, quantity=0, etag=item.etag)
        await self._refused("an etag that is stale", "ABORTED", stub.UpdateItem, stale)
        found = await self._call(stub.GetItem, pb.GetItemRequest(id=item.id))
        must((found.price, found.name, found.quantity) == (price, item.name, item.quantity), "the update did not hold")
        self.findings.changes.append(f"updated {item.sku} ({item.name}): {item.price:.2f} became {price:.2f}")

    async def _delete(self, stub: ItemServiceStub) -> None:
        item = self._created[1]
        await self._call(stub.DeleteItem, pb.DeleteItemRequest(id=item.id))
        await self._refused("a deleted item", "NOT_FOUND", stub.GetItem, pb.GetItemRequest(id=item.id))
        self.findings.changes.append(f"deleted {item.sku} ({item.name})")

    async def _be_refused(self, stub: ItemServiceStub) -> None:
        taken = pb.CreateItemRequest(name="The same again", sku=self._created[2].sku)
        await self._refused("a sku that is taken", "ALREADY_EXISTS", stub.CreateItem, taken)
        bad = pb.CreateItemRequest(name=PROBE_NAME, sku="no spaces please", quantity=-1)
        refusal = await self._refused("three bad fields", "INVALID_ARGUMENT", stub.CreateItem, bad)
        must(
            set(refusal.violations) == {"name", "sku", "quantity"}, f"only {set(refusal.violations)} were named as bad"
        )
        call = stub.GetItem
        await self._refused("no token", "UNAUTHENTICATED", call, pb.GetItemRequest(id=taken.sku), token=None)

    async def _be_refused_by_rest(self, rest: httpx.AsyncClient) -> None:
        taken = {"name": "x", "sku": self._created[2].sku}
        for what, expected, answer in (
            ("a sku that is taken", 409, await rest.post("/v1/items", json=taken, headers=self._bearer)),
            ("no token", 401, await rest.get("/v1/items/x")),
        ):
            must(answer.status_code == expected, f"REST with {what} answered {answer.status_code}, not {expected}")
            message = answer.json()["message"]
            self.findings.refusals[f"{what}, by REST"] = Refusal(f"HTTP {expected}", message, "", {})

    async def _call(self, method: Any, request: Any, *, token: str | None = "") -> Any:
        """One call with our token, or another, or with `None` none."""
        chosen = self._token if token == "" else token
        metadata = () if chosen is None else (("authorization", f"Bearer {chosen}"),)
        return await method(request, timeout=TIMEOUT, metadata=metadata)

    async def _refused(self, what: str, status: str, method: Any, request: Any, *, token: str | None = "") -> Refusal:
        try:
            await self._call(method, request, token=token)
        except grpc.aio.AioRpcError as error:
            refusal = Refusal.of(error)
        else:
            raise StepFailed(f"{what} was let through; {status} was expected")
        must(refusal.status == status, f"{what} got {refusal.status} ({refusal.message}); {status} was expected")
        self.findings.refusals[what] = refusal
        return refusal

    async def _timed[T](self, name: str, work: Callable[[T], Awaitable[None]], over: Sequence[T]) -> None:
        """Does the work for each, a few at once, and keeps how long each took."""
        timing = self.findings.timings[name] = Timing()
        slots = asyncio.Semaphore(AT_ONCE)

        async def one(each: T) -> None:
            async with slots:
                started = time.perf_counter()
                await work(each)
                timing.calls.append(time.perf_counter() - started)

        started = time.perf_counter()
        try:
            async with asyncio.TaskGroup() as group:
                for each in over:
                    group.create_task(one(each))
        except* StepFailed as failures:
            raise failures.exceptions[0] from None
        except* (grpc.aio.AioRpcError, httpx.HTTPError) as failures:
            raise StepFailed(f"{name}: {_worded(failures.exceptions[0])}") from None
        timing.whole = time.perf_counter() - started

    @asynccontextmanager
    async def _rest(self) -> AsyncIterator[httpx.AsyncClient]:
        context = ssl.create_default_context(cadata=self._mesh.root_certificate.decode())
        base = f"https://{self._authority}"
        async with httpx.AsyncClient(base_url=base, verify=context, timeout=TIMEOUT, trust_env=False) as client:
            yield client

    @property
    def _bearer(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self._token}"}


def _worded(error: BaseException) -> str:
    if isinstance(error, grpc.aio.AioRpcError):
        return f"{error.code().name} {error.details()}"
    return f"{type(error).__name__} {error}"
