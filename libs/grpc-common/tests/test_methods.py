"""What belongs to a method belongs to it however many handlers it has: limits, rates, numbers and names."""

import asyncio
from collections import Counter

import grpc
import pytest
from google.protobuf import wrappers_pb2
from grpc import StatusCode
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from grpc_common import chain as chain_module
from grpc_common.chain import Chain, Interceptor
from grpc_common.default_chain import default_interceptors
from grpc_common.interceptors.concurrency import ConcurrencyLimitInterceptor
from grpc_common.interceptors.error import ErrorInterceptor
from grpc_common.interceptors.logging import LoggingInterceptor
from grpc_common.interceptors.metrics import MetricsInterceptor
from grpc_common.interceptors.rate_limit import RateLimitInterceptor
from grpc_common.testing import in_process
from limited_service import SERVICE, begin, declare
from meshwork.policy.v1 import policy_pb2

UNARY = "grpc_common.tests.methods.v1.UnaryService"
PARALLEL = 6
PATIENCE = 20

declare(UNARY, streams=False, Pair=policy_pb2.Policy(max_concurrent=2), Rated=policy_pb2.Policy(
    rate=policy_pb2.Rate(per_second=0.001, burst=3)), Plain=policy_pb2.Policy(),
)  # fmt: skip


class PerCall(grpc.aio.ServerInterceptor):
    """As OpenTelemetry's and most others: a new handler around the one there is, for each call."""

    async def intercept_service(self, continuation, details):
        handler = await continuation(details)
        if handler is None:
            return None
        streams = handler.request_streaming, handler.response_streaming
        kind = "_".join("stream" if part else "unary" for part in streams)
        inner = getattr(handler, kind)

        async def one(request, context):
            return await inner(request, context)

        async def written(request, context):
            await inner(request, context)

        async def generated(request, context):
            async for reply in inner(request, context):
                yield reply

        behavior = one
        if handler.response_streaming:
            behavior = written if asyncio.iscoroutinefunction(inner) else generated
        make = getattr(grpc, f"{kind}_rpc_method_handler")
        return make(behavior, handler.request_deserializer, handler.response_serializer)


class Service:
    """Unary methods that run until the gate opens, by a generic handler that answers to every name."""

    def __init__(self, service=UNARY):
        self.open = asyncio.Event()
        self.running = self.most = 0
        self.service = service

    async def handle(self, request, context):
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await self.open.wait()
        finally:
            self.running -= 1
        return request

    def handler(self):
        return grpc.unary_unary_rpc_method_handler(
            self.handle, wrappers_pb2.Int32Value.FromString, wrappers_pb2.Int32Value.SerializeToString
        )

    def table(self, server):
        handlers = dict.fromkeys(("Pair", "Rated", "Plain"), self.handler())
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(self.service, handlers),))

    def per_call(self, server):
        server.add_generic_rpc_handlers((Everything(self.handler),))


class Everything(grpc.GenericRpcHandler):
    """Has every method, by a handler made for each call."""

    def __init__(self, make):
        self._make = make

    def service(self, details):
        return self._make()


def limits():
    return [ErrorInterceptor(), ConcurrencyLimitInterceptor(100), RateLimitInterceptor()]


STACKS = {
    "chain": lambda parts: [Chain(parts)],
    "per call inside": lambda parts: [Chain(parts), PerCall()],
    "per call outside": lambda parts: [PerCall(), Chain(parts)],
    "per call between": lambda parts: [Chain(parts[:1]), PerCall(), Chain(parts[1:])],
    "between, and inside": lambda parts: [*parts[:2], PerCall(), *parts[2:], PerCall()],
    "two chains": lambda parts: [Chain(parts[:1]), Chain(parts[1:])],
    "two chains, per call inside": lambda parts: [Chain(parts[:1]), Chain(parts[1:]), PerCall()],
    "a chain in a chain": lambda parts: [Chain([parts[0], Chain(parts[1:])])],
    "one by one, per call inside": lambda parts: [*parts, PerCall()],
}


def call_of(channel, method, **options):
    return channel.unary_unary(method, wrappers_pb2.Int32Value.SerializeToString, wrappers_pb2.Int32Value.FromString)(
        wrappers_pb2.Int32Value(value=7), timeout=PATIENCE, **options
    )


async def ended(calls):
    return Counter([(await call.code()).name for call in calls])


@pytest.fixture(params=["table", "per_call"])
def registered(request):
    return request.param


@pytest.mark.parametrize("stack", STACKS)
async def test_the_limit_of_a_method_holds_whoever_makes_its_handlers(stack, registered):
    service = Service()
    async with in_process(getattr(service, registered), STACKS[stack](limits())) as channel:
        calls = [call_of(channel, f"/{UNARY}/Pair") for _ in range(PARALLEL)]
        async with asyncio.timeout(PATIENCE):
            while sum(call.done() for call in calls) < PARALLEL - 2:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        service.open.set()
        assert await ended(calls) == {"OK": 2, "RESOURCE_EXHAUSTED": PARALLEL - 2}
    assert service.most == 2


@pytest.mark.parametrize("stack", STACKS)
async def test_the_rate_of_a_method_holds_whoever_makes_its_handlers(stack, registered):
    service = Service()
    service.open.set()
    async with in_process(getattr(service, registered), STACKS[stack](limits())) as channel:
        calls = [call_of(channel, f"/{UNARY}/Rated") for _ in range(PARALLEL)]
        assert await ended(calls) == {"OK": 3, "RESOURCE_EXHAUSTED": PARALLEL - 3}


async def test_one_limiter_in_two_chains_counts_once_for_both():
    """On two servers, even."""
    limiter, service = ConcurrencyLimitInterceptor(100), Service()
    first, second = Chain([ErrorInterceptor(), limiter]), Chain([ErrorInterceptor(), limiter])
    async with in_process(service.table, [first]) as one, in_process(service.table, [second]) as other:
        calls = [call_of(channel, f"/{UNARY}/Pair") for channel in (one, other) for _ in range(2)]
        async with asyncio.timeout(PATIENCE):
            while sum(call.done() for call in calls) < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        service.open.set()
        assert await ended(calls) == {"OK": 2, "RESOURCE_EXHAUSTED": 2}


@pytest.mark.parametrize("stack", STACKS)
async def test_a_method_is_wrapped_once_whoever_makes_its_handlers(stack, registered):
    wrapped = Counter()

    class Counting(Interceptor):
        def wrap(self, method, call_next):
            wrapped[method.path, method.kind] += 1
            return call_next

    service = Service()
    service.open.set()
    async with in_process(getattr(service, registered), STACKS[stack]([Counting(), Counting(), Counting()])) as channel:
        for _ in range(PARALLEL):
            await call_of(channel, f"/{UNARY}/Plain")
    # By each of the three itself, and where it is joined with those around it.
    assert 0 < wrapped.pop((f"/{UNARY}/Plain", "unary_unary")) <= 3 * 3
    assert all(path == "unknown" for path, _ in wrapped)


@pytest.mark.parametrize("stack", STACKS)
async def test_what_is_told_of_a_call_is_the_same_whoever_stands_between(stack):
    registry, gate, replies = CollectorRegistry(), asyncio.Event(), 0
    parts = [MetricsInterceptor(registry), LoggingInterceptor(), ErrorInterceptor()]

    async def echo(requests, context):
        async for request in requests:
            yield request

    stream = grpc.stream_stream_rpc_method_handler(
        echo, wrappers_pb2.Int32Value.FromString, wrappers_pb2.Int32Value.SerializeToString
    )
    service = Service()
    service.open.set()

    def register(server):
        service.table(server)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"Plain": stream}),))

    with capture_logs() as logs:
        async with in_process(register, STACKS[stack](parts)) as channel:
            await call_of(channel, f"/{UNARY}/Plain")
            call = channel.stream_stream(
                f"/{SERVICE}/Plain", wrappers_pb2.Int32Value.SerializeToString, wrappers_pb2.Int32Value.FromString
            )(iter([wrappers_pb2.Int32Value(value=each) for each in range(3)]), timeout=PATIENCE)
            async for _ in call:
                replies += 1
            gate.set()
            await channel.unary_unary("/made.up/Name")(b"").code()
            async with asyncio.timeout(PATIENCE):
                while len([line for line in logs if line["event"] == "call"]) < 3:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
    told = [(line["method"], line["kind"], line.get("received"), line.get("sent")) for line in logs]
    assert told == [
        (f"/{UNARY}/Plain", "unary_unary", None, None),
        (f"/{SERVICE}/Plain", "stream_stream", 3, 3),
        ("unknown", "stream_stream", 0, 0),
    ]
    received = registry.get_sample_value(
        "grpc_server_msg_received_total",
        {"grpc_type": "bidi_stream", "grpc_service": SERVICE, "grpc_method": "Plain"},
    )
    assert (received, replies) == (3, 3)


@pytest.mark.parametrize("made_up", ["names", "services"])
async def test_names_that_callers_make_up_are_bounded(made_up, monkeypatch):
    monkeypatch.setattr(chain_module, "MAX_NAMED", 5)
    monkeypatch.setattr(chain_module, "MAX_UNDECLARED", 10)
    registry, service = CollectorRegistry(), Service()
    service.open.set()
    chain = Chain(default_interceptors(registry=registry))
    path = "/made.up/Name{}" if made_up == "names" else "/made.up{}/Name"
    with capture_logs() as logs:
        async with in_process(service.per_call, [chain]) as channel:
            for number in range(30):
                await call_of(channel, path.format(number))
                await call_of(channel, path.format(0))
            await call_of(channel, f"/{UNARY}/Plain")
    labels = {
        (sample.labels["grpc_service"], sample.labels["grpc_method"])
        for family in registry.collect()
        for sample in family.samples
    }
    assert len(labels) <= 5 + len({"other", "unknown", "Plain"})
    assert {(UNARY, "Plain"), ("other", "other")} <= labels
    assert len({line["method"] for line in logs if line["event"] == "call"}) <= 5 + 2
    assert len(chain._undeclared) <= 10
    others = registry.get_sample_value(
        "grpc_server_handled_total",
        {"grpc_type": "unary", "grpc_service": "other", "grpc_method": "other", "grpc_code": "OK"},
    )
    assert others == 25


def test_a_chain_says_what_it_does_not_take():
    with pytest.raises(TypeError, match="give PerCall to the server, beside the Chain"):
        Chain([PerCall()])


async def test_a_declared_limit_holds_when_the_names_have_run_out(monkeypatch):
    monkeypatch.setattr(chain_module, "MAX_NAMED", 1)
    monkeypatch.setattr(chain_module, "MAX_UNDECLARED", 1)
    service = Service()
    async with in_process(service.per_call, [Chain(limits())]) as channel:
        service.open.set()
        for number in range(5):
            await call_of(channel, f"/made.up/Name{number}")
        service.open.clear()
        calls = [call_of(channel, f"/{UNARY}/Pair") for _ in range(PARALLEL)]
        async with asyncio.timeout(PATIENCE):
            while sum(call.done() for call in calls) < PARALLEL - 2:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        service.open.set()
        assert await ended(calls) == {"OK": 2, "RESOURCE_EXHAUSTED": PARALLEL - 2}


async def test_no_request_of_a_stream_is_waited_for_by_a_limit():
    """The limit counts streams that send nothing, too."""
    service = Service()

    async def wait(requests, context):
        await service.open.wait()

    handler = grpc.stream_stream_rpc_method_handler(wait)

    def register(server):
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"Pair": handler}),))

    async with in_process(register, [Chain(limits()), PerCall()]) as channel:
        calls = [begin(channel, "Pair") for _ in range(4)]
        async with asyncio.timeout(PATIENCE):
            while sum(call.done() for call in calls) < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        service.open.set()
        assert await ended(calls) == {"OK": 2, "RESOURCE_EXHAUSTED": 2}
        assert StatusCode.OK in {await call.code() for call in calls}
