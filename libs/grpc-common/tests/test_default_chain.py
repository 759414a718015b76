"""The default order: each place has a reason, and each reason a test that fails when the neighbours are swapped."""

import asyncio

import grpc
import pytest
from grpc import StatusCode
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from grpc_common.call import current_call
from grpc_common.chain import Chain
from grpc_common.default_chain import default_interceptors
from grpc_common.errors import UnauthorizedError
from grpc_common.interceptors.auth import AuthInterceptor
from grpc_common.policy import Access
from grpc_common.principal import Principal
from grpc_common.testing import in_process
from limited_service import Gate, begin
from meshwork.items.v1 import items_service_pb2 as pb
from meshwork.items.v1 import items_service_pb2_grpc as rpc

ORDER = (
    "TracingInterceptor",
    "MetricsInterceptor",
    "LoggingInterceptor",
    "ErrorInterceptor",
    "ConcurrencyLimitInterceptor",
    "DeadlineInterceptor",
    "AuthInterceptor",
    "RateLimitInterceptor",
    "PayloadInterceptor",
    "ValidationInterceptor",
)
ANYBODY = {"metadata": (("authorization", "Bearer anybody"),)}


class Doormen:
    """A JWTService that knows one token, and notes what it found when it was asked."""

    def __init__(self):
        self.budget = self.span = None

    def cached(self, token):
        return None

    async def verify(self, token):
        self.budget = current_call.get().deadline
        self.span = trace.get_current_span().get_span_context()
        if token != "anybody":
            raise UnauthorizedError("not you")
        return Principal(subject="anybody", issuer="test", expires_at=float("inf"), roles=frozenset({"editor"}))


class Items(rpc.ItemServiceServicer):
    def __init__(self):
        self.open = asyncio.Event()
        self.open.set()
        self.entered = asyncio.Event()

    async def GetItem(self, request, context):
        self.entered.set()
        await self.open.wait()
        return pb.Item(id=request.id)

    async def CreateItem(self, request, context):
        return pb.Item()

    def register(self, server):
        rpc.add_ItemServiceServicer_to_server(self, server)


def interceptors(**options):
    made = {
        "jwt_service": Doormen(),
        "tracer": TracerProvider().get_tracer("test"),
        "registry": CollectorRegistry(),
        "log_payloads": True,
    }
    return default_interceptors(**made | options)


def swapped(name, **options):
    """The default chain with the interceptor of that name and the one after it in each other's place."""
    chain = interceptors(**options)
    at = ORDER.index(name)
    chain[at], chain[at + 1] = chain[at + 1], chain[at]
    return chain


def test_the_order_is_written_once_and_meant():
    assert tuple(type(each).__name__ for each in interceptors()) == ORDER


async def get(channel, **call):
    call = rpc.ItemServiceStub(channel).GetItem(pb.GetItemRequest(id="1"), **call)
    return await call.code()


def access_lines(logs):
    return [line for line in logs if line["event"] == "call"]


async def logged(chain, **call):
    with capture_logs() as logs:
        async with in_process(Items().register, [Chain(chain)]) as channel:
            await get(channel, **call)
    (line,) = access_lines(logs)
    return line


async def test_the_log_shows_the_status_that_is_sent():
    assert (await logged(interceptors()))["status"] == "UNAUTHENTICATED"
    assert (await logged(swapped("LoggingInterceptor")))["status"] != "UNAUTHENTICATED"


async def counted(chain_of):
    registry = CollectorRegistry()
    async with in_process(Items().register, [Chain(chain_of(registry=registry))]) as channel:
        await get(channel)
    labels = {"grpc_service": "meshwork.items.v1.ItemService", "grpc_method": "GetItem", "grpc_type": "unary"}
    return {
        code: registry.get_sample_value("grpc_server_handled_total", {**labels, "grpc_code": code})
        for code in ("Unauthenticated", "Unknown")
    }


async def test_the_metrics_count_the_status_that_is_sent():
    def misplaced(**options):
        chain = interceptors(**options)
        metrics = chain.pop(ORDER.index("MetricsInterceptor"))
        chain.insert(ORDER.index("ErrorInterceptor"), metrics)
        return chain

    assert (await counted(interceptors))["Unauthenticated"] == 1
    assert (await counted(misplaced))["Unauthenticated"] != 1


async def test_a_full_server_refuses_before_it_looks_at_tokens():
    async def refused_with(chain):
        items = Items()
        items.open.clear()
        async with in_process(items.register, [Chain(chain)]) as channel:
            running = rpc.ItemServiceStub(channel).GetItem(pb.GetItemRequest(id="1"), **ANYBODY)
            await items.entered.wait()
            code = await get(channel, timeout=5)
            items.open.set()
            await running
        return code

    limit = {"max_concurrent_rpcs": 1}
    assert await refused_with(interceptors(**limit)) is StatusCode.RESOURCE_EXHAUSTED
    after_auth = interceptors(**limit)
    after_auth.insert(6, after_auth.pop(4))
    assert await refused_with(after_auth) is StatusCode.UNAUTHENTICATED


async def test_looking_for_keys_draws_on_the_budget_of_the_call():
    async def budget(chain_of):
        doormen = Doormen()
        async with in_process(Items().register, [Chain(chain_of(jwt_service=doormen))]) as channel:
            assert await get(channel, **ANYBODY) is StatusCode.OK
        return doormen.budget

    assert await budget(interceptors) is not None
    assert await budget(lambda **options: swapped("DeadlineInterceptor", **options)) is None


class ByName(Doormen):
    """Takes every token for the name of who sent it."""

    def cached(self, token):
        return Principal(subject=token, issuer="test", expires_at=float("inf"))


class Everywhere(AuthInterceptor):
    """Asks for a token where the policy lets anybody in, too."""

    def _access(self, method):
        return Access(anonymous=False, roles=(), scopes=())


async def test_the_rate_is_counted_per_principal():
    async def codes(chain):
        async def done(context):
            pass

        async with in_process(Gate(done).register, [Chain(chain)]) as channel:
            return {
                await begin(channel, "Rated", metadata=(("authorization", f"Bearer {name}"),)).code()
                for name in "ababab"
            }

    chain = interceptors()
    at = ORDER.index("AuthInterceptor")
    chain[at] = Everywhere(ByName())
    assert await codes(chain) == {StatusCode.OK}
    chain[at], chain[at + 1] = chain[at + 1], chain[at]
    assert StatusCode.RESOURCE_EXHAUSTED in await codes(chain)


async def test_who_may_not_call_learns_nothing_about_the_request():
    async def code(chain):
        async with in_process(Items().register, [Chain(chain)]) as channel:
            call = rpc.ItemServiceStub(channel).CreateItem(pb.CreateItemRequest(price=-1))
            return await call.code()

    assert await code(interceptors()) is StatusCode.UNAUTHENTICATED
    before_auth = interceptors()
    before_auth.insert(ORDER.index("AuthInterceptor"), before_auth.pop())
    assert await code(before_auth) is StatusCode.INVALID_ARGUMENT


async def test_the_payload_log_shows_what_validation_refuses():
    async def payloads(chain):
        with capture_logs() as logs:
            async with in_process(Items().register, [Chain(chain)]) as channel:
                call = rpc.ItemServiceStub(channel).CreateItem(pb.CreateItemRequest(price=-1), **ANYBODY)
                assert await call.code() is StatusCode.INVALID_ARGUMENT
        return [line for line in logs if line.get("component") == "payload"]

    assert await payloads(interceptors())
    assert not await payloads(swapped("PayloadInterceptor"))


async def test_looking_for_keys_is_part_of_the_trace():
    async def traced(chain_of):
        doormen = Doormen()
        async with in_process(Items().register, [Chain(chain_of(jwt_service=doormen))]) as channel:
            assert await get(channel, **ANYBODY) is StatusCode.OK
        return doormen.span.is_valid

    def misplaced(**options):
        chain = interceptors(**options)
        chain.insert(ORDER.index("AuthInterceptor"), chain.pop(0))
        return chain

    assert await traced(interceptors)
    assert not await traced(misplaced)


@pytest.mark.parametrize("path", ["/grpc.health.v1.Health/Check", "/made.up/Name"])
async def test_what_is_not_a_service_of_ours_passes_through_all_of_it(path):
    async with in_process(Items().register, [Chain(interceptors())]) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await channel.unary_unary(path)(b"")
    assert failure.value.code() is StatusCode.UNIMPLEMENTED
