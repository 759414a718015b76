"""Deadlines: the caller's and the policy's, whichever is first; the budget is there for whoever asks."""

import asyncio
import time

import grpc
import pytest
from grpc import StatusCode

from grpc_common.chain import Chain, Interceptor
from grpc_common.deadline import remaining
from grpc_common.interceptors.deadline import DeadlineInterceptor
from grpc_common.interceptors.error import ErrorInterceptor
from grpc_common.policy import LONGEST
from grpc_common.testing import in_process
from limited_service import Gate, begin

CHAIN = (ErrorInterceptor, DeadlineInterceptor)


def chain():
    return [Chain([kind() for kind in CHAIN])]


async def test_a_call_without_a_deadline_ends_at_the_timeout_of_its_policy():
    gate = Gate()
    async with in_process(gate.register, chain()) as channel:
        call = begin(channel, "Short")
        assert await call.code() is StatusCode.DEADLINE_EXCEEDED
        assert "longer than it may" in await call.details()
        assert gate.running == 0


async def test_a_callers_longer_deadline_does_not_lengthen_it():
    gate = Gate()
    async with in_process(gate.register, chain()) as channel:
        started = asyncio.get_running_loop().time()
        assert await begin(channel, "Short", timeout=30).code() is StatusCode.DEADLINE_EXCEEDED
        assert asyncio.get_running_loop().time() - started < 15


async def test_the_handler_sees_the_lesser_of_both():
    seen = []

    async def note(context):
        seen.append((remaining(), remaining(0.01), remaining(1000)))

    gate = Gate(note)
    async with in_process(gate.register, chain()) as channel:
        for method, timeout in (("Long", None), ("Long", 5), ("Long", 15), ("Plain", None)):
            assert await begin(channel, method, timeout=timeout).code() is StatusCode.OK
    # Core rounds up what it tells the server, and a busy machine takes its time.
    least = [10, 5, 10, 30]
    assert all(lesser - 4 < left < lesser + 0.2 for (left, _, _), lesser in zip(seen, least, strict=True))
    assert all(own == 0.01 and left - 4 < long <= left for left, own, long in seen)


async def test_what_is_left_is_never_below_nothing(monkeypatch):
    seen = []

    async def note(context):
        with monkeypatch.context() as later:
            later.setattr("grpc_common.deadline.monotonic", lambda: time.monotonic() + 3600)
            seen.extend((remaining(), remaining(5)))

    async with in_process(Gate(note).register, chain()) as channel:
        assert await begin(channel, "Plain").code() is StatusCode.OK
    assert seen == [0.0, 0.0]


async def test_outside_of_a_call_there_is_only_ones_own_limit():
    assert remaining() is None
    assert remaining(3.0) == 3.0


class Stall(Interceptor):
    """Holds the event loop up, so that the deadline passes while nobody can be told."""

    def wrap(self, method, call_next):
        async def run(call, request):
            time.sleep(0.1)  # noqa: ASYNC251
            return await call_next(call, request)

        return run


async def test_a_spent_deadline_does_not_reach_the_handler():
    gate = Gate()
    async with in_process(gate.register, [Chain([ErrorInterceptor(), Stall(), DeadlineInterceptor()])]) as channel:
        assert await begin(channel, "Plain", timeout=0.05).code() is StatusCode.DEADLINE_EXCEEDED
        await asyncio.sleep(0.05)
    assert gate.entered == 0


@pytest.mark.parametrize(
    ("header", "seconds"), [("99999999H", LONGEST), ("99999999M", LONGEST), ("60000000S", LONGEST)]
)
async def test_a_time_from_a_foreign_client_that_nobody_lives_to_see(header, seconds):
    """grpc-timeout may say 11,000 years (the protocol has eight digits of hours); no client of grpc itself sends it."""
    seen = []

    async def behavior(request, context):
        seen.append(remaining())
        return request

    server = grpc.aio.server(interceptors=chain())
    handler = grpc.unary_unary_rpc_method_handler(behavior)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("no.Policy", {"M": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        assert await _ask(port, "/no.Policy/M", header) == b"0"
    finally:
        await server.stop(None)
    assert seconds - 60 < seen[0] <= seconds


async def _ask(port, path, header):
    """Make a call by hand, frame by frame (RFC 9113); return its status."""
    fields = {":method": "POST", ":scheme": "http", ":path": path, ":authority": "x", "te": "trailers",
              "content-type": "application/grpc", "grpc-timeout": header}  # fmt: skip
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    block = b"".join(b"\0" + _text(name) + _text(value) for name, value in fields.items())
    writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _frame(4, 0, 0, b"") + _frame(1, 4, 1, block))
    writer.write(_frame(0, 1, 1, bytes(5)))
    answer = b""
    try:
        while b"grpc-status" not in answer and (data := await reader.read(65536)):
            answer += data
    finally:
        writer.close()
    length, *status = answer.partition(b"grpc-status")[2]
    return bytes(status[:length])


def _text(value):
    return bytes((len(value),)) + value.encode()


def _frame(kind, flags, stream, payload):
    return len(payload).to_bytes(3) + bytes((kind, flags)) + stream.to_bytes(4) + payload
