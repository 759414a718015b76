"""What the matrix is for: a chain that is wrong in one of the usual ways is found out."""

import asyncio
import inspect
from contextlib import suppress

import pytest
import structlog
from grpc import StatusCode
from structlog.testing import capture_logs

from grpc_common import chain as chain_module
from grpc_common.call_metrics import MethodMetrics
from grpc_common.chain import Interceptor
from grpc_common.conformance.endings import CASES
from grpc_common.conformance.matrix import Matrix
from grpc_common.interceptors.concurrency import ConcurrencyLimitInterceptor
from subjects import subject_of


class Faulty(Interceptor):
    """Around the whole chain; does what its function says."""

    def __init__(self, run):
        self.run = run

    def wrap(self, method, call_next):
        async def run(call, request):
            return await self.run(call_next, call, request)

        return run


class Forgetful(ConcurrencyLimitInterceptor):
    """Gives no place back when a call fails."""

    def wrap(self, method, call_next):
        counted = super().wrap(method, call_next)

        async def run(call, request):
            try:
                return await counted(call, request)
            except BaseException:
                self.running += 1
                raise

        return run


async def waits_on(call_next, call, request):
    with suppress(asyncio.CancelledError):
        return await call_next(call, request)
    return await asyncio.sleep(60)


async def logs_again(call_next, call, request):
    try:
        return await call_next(call, request)
    finally:
        structlog.get_logger(component="access").info("call", method=call.method.path, status="OK")


async def leaves_a_task(call_next, call, request):
    call.principal = asyncio.ensure_future(asyncio.sleep(60))
    return await call_next(call, request)


def around(run):
    return lambda chain: [Faulty(run), *chain]


def without(name):
    return lambda chain: [each for each in chain if type(each).__name__ != f"{name}Interceptor"]


def outermost(name):
    return lambda chain: [*(each for each in chain if name in type(each).__name__), *without(name)(chain)]


def with_forgetful(chain):
    return [Forgetful(100) if isinstance(each, ConcurrencyLimitInterceptor) else each for each in chain]


FAULTS = {
    "swallows-cancellation": (around(waits_on), "cancel", "tasks are left"),
    "logs-twice": (around(logs_again), "return", "the observer access log"),
    "leaves-a-task": (around(leaves_a_task), "return", "tasks are left: sleep"),
    "does-not-map-errors": (without("Error"), "crash", "was leaked"),
    "maps-errors-too-late": (outermost("Error"), "domain-error", "the observer handled"),
    "starts-no-span": (without("Tracing"), "return", "the observer spans"),
    "keeps-the-place": (with_forgetful, "domain-error", "the gauge running stays at 1"),
}


async def findings(tamper, ending):
    """One case is enough to find each, and all but the first style would only take more time."""
    with capture_logs() as entries:
        async with Matrix.serve(subject_of("chain", entries, tamper)) as matrix:
            case = next(case for case in CASES if case.ending.name == ending and case.style.replies == "generator")
            return await matrix.check(case)


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_fault_is_found(fault):
    tamper, ending, finding = FAULTS[fault]
    assert any(finding in found for found in await findings(tamper, ending))


async def test_a_metric_forgotten_on_cancellation_is_found(monkeypatch):
    end = MethodMetrics.end

    def forget(self, call, status):
        if status is not StatusCode.CANCELLED:
            end(self, call, status)

    monkeypatch.setattr(MethodMetrics, "end", forget)
    found = await findings(list, "cancel")
    assert any("the observer handled" in each for each in found)
    assert any("the gauge in flight" in each for each in found)


async def test_a_generator_left_to_the_collector_is_found(monkeypatch):
    drive = chain_module.drive

    def careless(method):
        drives = drive(method)

        async def run(call, request):
            if not inspect.isasyncgenfunction(call.served.behavior):
                return await drives(call, request)
            async for message in call.served.behavior(request, call.context):
                await call.context.write(message)
            return None

        return run

    monkeypatch.setattr(chain_module, "drive", careless)
    found = await findings(list, "unserialisable-reply")
    assert any("clean-up" in each for each in found)
