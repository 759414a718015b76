"""Streams written and read by hand: by several tasks, closed by halves, and told of their end once."""

import asyncio

import grpc
import pytest
from grpc import StatusCode

from client_kit import METHODS, Server, Stub, make_factory, serving, text
from grpc_common.client.remote_error import RemoteError, RemoteUnavailableError

WRITTEN = [name for name, (kind, *_) in METHODS.items() if kind.startswith("stream")]
READ = [name for name, (kind, *_) in METHODS.items() if kind.endswith("_stream")]
MANY = 20
SIZE = 100_000


async def last_of(call):
    if not hasattr(call, "__aiter__"):
        return await call
    replies = [reply async for reply in call]
    return replies[-1]


async def joined(request, context):
    """All that the caller has sent, in one reply."""
    return text(" ".join(sorted([each.value[:2] async for each in request])))


async def joined_stream(request, context):
    yield await joined(request, context)


async def counted(request, context):
    """MANY replies to whatever the caller sends."""
    if hasattr(request, "__aiter__"):
        async for _ in request:
            pass
    for number in range(MANY):
        yield text(f"{number:02}")


def serves(name):
    return Server(**{name: joined_stream if name in READ else joined})


@pytest.mark.parametrize("name", WRITTEN)
async def test_several_tasks_write_to_one_call(name):
    async with make_factory() as factory, serving(serves(name)) as target:
        call = getattr(Stub(await factory.create_channel(target, secure=False)), name)(timeout=60)
        await asyncio.gather(*(call.write(text(f"{number:02}" + "x" * SIZE)) for number in range(MANY)))
        await asyncio.gather(call.done_writing(), call.done_writing())
        assert (await last_of(call)).value == " ".join(f"{number:02}" for number in range(MANY))


@pytest.mark.parametrize("name", WRITTEN)
async def test_a_writer_that_waits_for_its_turn_can_be_cancelled(name):
    async with make_factory() as factory, serving(serves(name)) as target:
        call = getattr(Stub(await factory.create_channel(target, secure=False)), name)(timeout=60)
        first = asyncio.ensure_future(call.write(text("01")))
        second = asyncio.ensure_future(call.write(text("02")))
        await asyncio.sleep(0)
        second.cancel()
        await first
        await call.write(text("03"))
        await call.done_writing()
        assert (await last_of(call)).value == "01 03"


@pytest.mark.parametrize("name", READ)
async def test_each_reply_has_one_reader(name):
    async with make_factory() as factory, serving(Server(**{name: counted})) as target:
        method = getattr(Stub(await factory.create_channel(target, secure=False)), name)
        call = method([text()] if name in WRITTEN else text(), timeout=60)
        replies = await asyncio.gather(*(call.read() for _ in range(MANY + 2)))
        assert [reply.value for reply in replies[:MANY]] == [f"{number:02}" for number in range(MANY)]
        assert replies[MANY:] == [grpc.aio.EOF] * 2
        assert await call.code() is StatusCode.OK


@pytest.mark.parametrize("name", WRITTEN)
async def test_nothing_is_written_after_the_last(name):
    async with make_factory() as factory, serving(serves(name)) as target:
        call = getattr(Stub(await factory.create_channel(target, secure=False)), name)(timeout=60)
        await call.write(text("01"))
        await call.done_writing()
        with pytest.raises(asyncio.InvalidStateError, match="after done_writing"):  # as grpc.aio has it
            await call.write(text("02"))
        assert (await last_of(call)).value == "01"
        await call.done_writing()


@pytest.mark.parametrize("written", [0, 1])
@pytest.mark.parametrize("name", WRITTEN)
async def test_a_call_that_fails_takes_the_end_of_its_requests(name, written):
    async with make_factory() as factory:
        method = getattr(Stub(await factory.create_channel("127.0.0.1:1", secure=False)), name)
        call = method(timeout=60)
        for _ in range(written):
            with pytest.raises(RemoteUnavailableError):
                await call.write(text())
        await call.done_writing()
        with pytest.raises(RemoteUnavailableError):
            await last_of(call)
        await call.done_writing()


@pytest.mark.parametrize("refusals", [0, 2])
@pytest.mark.parametrize("name", METHODS)
async def test_a_callback_is_told_once_of_the_end_of_the_call(name, refusals):
    kind = METHODS[name][0]
    repeated = name in {"Read", "Put", "Watch", "Gather", "Talk"}
    attempts, told = [], []

    async def unary(request, context):
        if hasattr(request, "__aiter__"):
            async for _ in request:
                pass
        attempts.append(request)
        if len(attempts) <= refusals:
            await context.abort(StatusCode.UNAVAILABLE, "again")
        return text()

    async def stream(request, context):
        yield await unary(request, context)

    served = Server(**{name: stream if name in READ else unary})
    async with make_factory() as factory, serving(served) as target:
        method = getattr(Stub(await factory.create_channel(target, secure=False)), name)
        call = method([text()] if kind.startswith("stream") else text(), timeout=60)
        ended = asyncio.Event()

        def done(which):
            told.append((which is call, which.done(), len(attempts)))
            ended.set()

        call.add_done_callback(done)
        if refusals and not repeated:
            with pytest.raises(RemoteError):
                await last_of(call)
        else:
            await last_of(call)
        await ended.wait()
        assert told == [(True, True, refusals + 1 if repeated else 1)]
        call.add_done_callback(done)
        await asyncio.sleep(0)
        assert len(told) == 2


class Fatal(BaseException):
    """What libraries raise so that `except Exception` lets it pass."""


@pytest.mark.parametrize("form", ["iterator", "asynchronous"])
@pytest.mark.parametrize("name", WRITTEN)
async def test_whatever_a_source_raises_ends_the_call(name, form):
    def iterator():
        yield text()
        raise Fatal

    async def asynchronous():
        yield text()
        raise Fatal

    async with make_factory() as factory, serving(serves(name)) as target:
        method = getattr(Stub(await factory.create_channel(target, secure=False)), name)
        with pytest.raises(Fatal):
            await last_of(method(iterator() if form == "iterator" else asynchronous(), timeout=60))


@pytest.mark.parametrize("form", [list, tuple])
@pytest.mark.parametrize("name", ["Gather", "Talk"])
async def test_what_is_sent_again_is_what_was_sent(name, form):
    """Also where the caller goes on with its list, and with the messages in it."""
    attempts, refuse = [], asyncio.Event()

    async def unary(request, context):
        attempts.append([each.value async for each in request])
        if len(attempts) < 3:
            await refuse.wait()
            await context.abort(StatusCode.UNAVAILABLE, "again")
        return text()

    async def stream(request, context):
        yield await unary(request, context)

    async with make_factory() as factory, serving(Server(**{name: stream if name in READ else unary})) as target:
        method = getattr(Stub(await factory.create_channel(target, secure=False)), name)
        message = text("first")
        requests = form([message, message])
        call = method(requests, timeout=60)
        async with asyncio.timeout(30):
            while not attempts:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        message.value = "second"
        if form is list:
            requests.append(message)
        refuse.set()
        await last_of(call)
    assert attempts == [["first", "first"]] * 3
