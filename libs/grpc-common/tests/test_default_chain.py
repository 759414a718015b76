"""The default order: each place has a reason, and each reason a test that fails when the neighbours are swapped."""

import asyncio
import itertools

import grpc
import pytest
from grpc import StatusCode
from opentelemetry.sdk.trace import TracerProvider
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from grpc_common.call import current_call
from grpc_common.chain import Chain
from grpc_common.default_chain import default_interceptors
from grpc_common.errors import UnauthorizedError
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
    """A JWTService that knows one token, after some thought."""

    def __init__(self, seconds=0.0):
        self.seconds, self.asked, self.budget = seconds, 0, None

    def cached(self, token):
        return None

    async def verify(self, token):
        self.asked += 1
        self.budget = current_call.get().deadline
        await asyncio.sleep(self.seconds)
        if token != "anybody":
            raise UnauthorizedError("not you")
        return Principal(subject="anybody", issuer="test", expires_at=float("inf"), roles=frozenset({"editor"}))


class Items(rpc.ItemServiceServicer):
    def __init__(self):
        self.open = asyncio.Event()
        self.open.set()

    async def GetItem(self, request, context):
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
            await asyncio.sleep(0.2)
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


async def test_the_rate_is_counted_per_principal():
    class Two(Doormen):
        async def verify(self, token):
            return Principal(subject=token, issuer="test", expires_at=float("inf"))

        cached = None

    class ByName(Two):
        def cached(self, token):
            return Principal(subject=token, issuer="test", expires_at=float("inf"))

    async def codes(chain):
        async def done(context):
            pass

        # The service's policy lets anybody in, so a principal is put there the way auth does, by an interceptor.
        gate = Gate(done)
        async with in_process(gate.register, [Chain(chain)]) as channel:
            found = [
                await begin(channel, "Rated", metadata=(("authorization", f"Bearer {name}"),)).code()
                for name in itertools.islice(itertools.cycle("ab"), 6)
            ]
        return set(found)

    from grpc_common.interceptors.auth import AuthInterceptor

    class Everywhere(AuthInterceptor):
        def _access(self, method):
            from grpc_common.policy import Access

            return Access(anonymous=False, roles=(), scopes=())

    chain = interceptors()
    chain[ORDER.index("AuthInterceptor")] = Everywhere(ByName())
    assert await codes(chain) == {StatusCode.OK}
    at = ORDER.index("AuthInterceptor")
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


async def test_the_line_of_the_log_names_the_span():
    from opentelemetry import trace

    async def traced(chain):
        seen = []

        class Observed(type(chain[0])):
            pass

        del Observed
        items = Items()

        async def note(request, context):
            seen.append(trace.get_current_span().get_span_context().is_valid)
            return pb.Item()

        items.GetItem = note
        async with in_process(items.register, [Chain(chain)]) as channel:
            assert await get(channel, **ANYBODY) is StatusCode.OK
        return seen

    assert await traced(interceptors()) == [True]


@pytest.mark.parametrize("path", ["/grpc.health.v1.Health/Check", "/made.up/Name"])
async def test_what_is_not_a_service_of_ours_passes_through_all_of_it(path):
    async with in_process(Items().register, [Chain(interceptors())]) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await channel.unary_unary(path)(b"")
    assert failure.value.code() is StatusCode.UNIMPLEMENTED
