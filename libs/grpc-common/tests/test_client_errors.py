"""Statuses become the errors they were."""

import copy
import pickle

import grpc
import pytest
from google.protobuf import any_pb2
from google.rpc import status_pb2
from grpc import RpcError, StatusCode
from grpc_status import rpc_status
from hypothesis import given, settings
from hypothesis import strategies as st

from client_kit import METHODS, Server, Stub, make_factory, serving, text
from grpc_common.chain import Chain
from grpc_common.client.factory import OWN_CONNECTIONS
from grpc_common.client.remote_error import (
    _CLASSES,
    DETAIL_KEY,
    STATUS_KEY,
    CircuitOpenError,
    ConnectionFailedError,
    DeadlineSpentError,
    RemoteError,
    RemoteNotFoundError,
    RemoteUnavailableError,
    own_error,
    remote_error,
)
from grpc_common.errors import (
    ERROR_STATUS_MAP,
    AppException,
    ConflictError,
    ExternalServiceError,
    FieldViolation,
    NotFoundError,
    PreconditionError,
    RateLimitError,
    ValidationError,
    exception_to_status,
)
from grpc_common.interceptors.error import ErrorInterceptor

CHAIN = [Chain([ErrorInterceptor()])]


async def raised(error):
    async def behavior(request, context):
        raise error

    async with make_factory() as factory, serving(Server(Write=behavior), interceptors=CHAIN) as target:
        stub = Stub(await factory.create_channel(target, secure=False))
        with pytest.raises(RemoteError) as caught:
            await stub.Write(text())
    return caught.value


@pytest.mark.parametrize("cls", list(ERROR_STATUS_MAP))
async def test_an_error_arrives_as_what_it_was_raised_as(cls):
    error = await raised(cls("what happened", metadata={"item": "7"}))
    assert isinstance(error, cls) or cls.__name__ == "DatabaseError"
    assert isinstance(error, AppException)
    assert isinstance(error, RpcError)
    assert error.status is ERROR_STATUS_MAP[cls]
    assert error.message == "what happened"
    assert error.reason == cls.reason
    assert error.domain == error.method[1:].rpartition("/")[0]
    assert error.metadata["item"] == "7"
    assert "what happened" in str(error)
    assert exception_to_status(error) == (ERROR_STATUS_MAP[cls], "what happened")


async def test_a_timeout_arrives_as_a_timeout():
    error = await raised(TimeoutError("too slow"))
    assert isinstance(error, TimeoutError)
    assert exception_to_status(error)[0] is StatusCode.DEADLINE_EXCEEDED


async def test_bad_fields_arrive():
    violations = [FieldViolation("name", "is empty"), FieldViolation("[17].price", "is below 0")]
    error = await raised(ValidationError(violations=violations))
    assert isinstance(error, ValidationError)
    assert list(error.violations) == violations
    assert error.field == "name"


async def test_when_to_come_back_arrives_and_is_told_on():
    error = await raised(RateLimitError("slow down", retry_after=2.5))
    assert error.retry_after == 2.5
    again = await raised(error)
    assert isinstance(again, RateLimitError)
    assert again.retry_after == 2.5


async def test_an_own_status_arrives_and_passes_on():
    class QuotaSpentError(AppException):
        status = StatusCode.FAILED_PRECONDITION
        reason = "QUOTA_SPENT"

    error = await raised(QuotaSpentError("nothing is left"))
    assert isinstance(error, PreconditionError)
    assert (error.status, error.reason, error.message) == (
        StatusCode.FAILED_PRECONDITION,
        "QUOTA_SPENT",
        "nothing is left",
    )
    again = await raised(error)
    assert (type(again), again.status, again.reason) == (type(error), error.status, error.reason)


async def test_an_own_code_arrives():
    class ItemLockedError(ConflictError):
        reason = "ITEM_LOCKED"

    error = await raised(ItemLockedError("item 7 is locked"))
    assert isinstance(error, ConflictError)
    assert error.reason == "ITEM_LOCKED"
    assert error.reason == "ITEM_LOCKED"
    assert ConflictError.reason == "ALREADY_EXISTS"  # of the class, and of nobody else


async def test_an_error_that_passes_through_a_handler_stays_what_it_is():
    async def last(request, context):
        raise NotFoundError("no item 7", field="id")

    async with make_factory() as factory, serving(Server(Write=last), interceptors=CHAIN) as behind:
        inner = Stub(await factory.create_channel(behind, secure=False))

        async def first(request, context):
            return await inner.Write(request)

        async with serving(Server(Write=first), interceptors=CHAIN) as before:
            stub = Stub(await factory.create_channel(before, secure=False))
            with pytest.raises(NotFoundError) as caught:
                await stub.Write(text())
    assert isinstance(caught.value, RemoteNotFoundError)
    assert (caught.value.message, caught.value.field) == ("no item 7", "id")


trailers = st.lists(
    st.tuples(st.sampled_from([STATUS_KEY, DETAIL_KEY, "x", "grpc-retry-pushback-ms"]), st.binary() | st.text()),
    max_size=5,
).map(tuple)


@settings(max_examples=300)
@given(status=st.sampled_from([each for each in StatusCode if each.name != "OK"]), details=st.text(), trailers=trailers)
def test_whatever_a_server_sends_gives_an_error(status, details, trailers):
    error = remote_error(status, details, method="/a.B/C", trailers=trailers)
    assert error.status is status
    assert error.message
    assert str(error)


def test_details_of_an_unknown_type_are_left_out():
    packed = status_pb2.Status(code=5, details=[any_pb2.Any(type_url="type.googleapis.com/no.Such", value=b"\xff")])
    error = remote_error(
        StatusCode.NOT_FOUND, "gone", method="/a.B/C", trailers=((STATUS_KEY, packed.SerializeToString()),)
    )
    assert isinstance(error, NotFoundError)
    assert error.reason == "NOT_FOUND"


async def test_a_call_tells_what_grpc_aio_tells():
    async def behavior(request, context):
        await context.abort(StatusCode.OUT_OF_RANGE, "too far", (("k", "v"),))

    async with make_factory() as factory, serving(Server(Write=behavior)) as target:
        stub = Stub(await factory.create_channel(target, secure=False))
        call = stub.Write(text())
        assert await call.code() is StatusCode.OUT_OF_RANGE
        assert await call.details() == "too far"
        assert dict(await call.trailing_metadata())["k"] == "v"
        assert call.done()
        with pytest.raises(RemoteError):
            await call
        with pytest.raises(RemoteError):  # a second time, too
            await call


async def test_a_request_that_does_not_serialise_is_not_sent():
    served = Server(Write=None)
    async with make_factory() as factory, serving(Server()) as target:
        stub = Stub(await factory.create_channel(target, secure=False))
        with pytest.raises(TypeError):
            stub.Write("no message")
    assert not served.entered


async def test_an_unavailable_server_is_an_external_service():
    error = remote_error(StatusCode.UNAVAILABLE, "", method="/a.B/C")
    assert isinstance(error, RemoteUnavailableError)
    assert isinstance(error, ExternalServiceError)


KINDS = {"unary_unary": "Write", "unary_stream": "List", "stream_unary": "Pour", "stream_stream": "Chat"}


def begin(channel, kind, name, request=None):
    """Make a call of any kind through `channel`, plain or ours."""
    make = getattr(channel, kind)(f"/grpc_common.tests.client.v1.ClientService/{name}")
    return make(iter([b""]) if kind.startswith("stream") else b"")


async def ended(call):
    """Wait for the call and return what it raised."""
    with pytest.raises(grpc.RpcError) as caught:
        if hasattr(call, "__aiter__"):
            async for _ in call:
                pass
        else:
            await call
    return caught.value


def shown(metadata):
    return sorted((key, value) for key, value in metadata if key not in {"date", "server"})


@pytest.mark.parametrize("early", [False, True])
@pytest.mark.parametrize("details", ["", "no item 7", "zwölf\n\t% 100%25 \u2028"])
@pytest.mark.parametrize("status", [status for status in StatusCode if status is not StatusCode.OK])
@pytest.mark.parametrize("kind", KINDS)
async def test_an_error_answers_as_that_of_grpc_aio(kind, status, details, early):
    async def fail(request, context):
        if kind.startswith("stream"):
            async for _ in request:  # or grpc.aio's own write could put INTERNAL in the place of the status
                pass
        if early:
            await context.send_initial_metadata((("x-first", "1"), ("x-first-bin", b"\0")))
        trailers = (("k", "1"), ("k", "2"), ("k-bin", b"\xff\0"))
        await context.abort(status, details, trailers)

    async def unary(request, context):
        await fail(request, context)

    async def stream(request, context):
        await fail(request, context)
        yield text()

    name = KINDS[kind]
    behaviors = {name: stream if METHODS[name][0].endswith("_stream") else unary}
    async with (
        make_factory() as factory,
        serving(Server(**behaviors)) as target,
        grpc.aio.insecure_channel(target, [OWN_CONNECTIONS]) as plain,
    ):
        theirs = await ended(begin(plain, kind, name))
        ours = await ended(begin(await factory.create_channel(target, secure=False), kind, name))
    assert isinstance(ours, RemoteError)
    assert isinstance(ours, _CLASSES.get(status, RemoteError))
    assert ours.code() is theirs.code() is status
    assert ours.details() == theirs.details() == details
    assert shown(ours.trailing_metadata()) == shown(theirs.trailing_metadata())
    if kind.endswith("_unary"):  # of a stream grpc.aio itself may lose it when the status comes close behind
        assert shown(ours.initial_metadata()) == shown(theirs.initial_metadata())
        assert bool(shown(ours.initial_metadata())) is early
    assert ours.trailing_metadata().get_all("k") == ["1", "2"]
    assert ours.debug_error_string()
    assert rpc_status.from_call(ours) is rpc_status.from_call(theirs) is None


@settings(max_examples=100, deadline=None)
@given(
    message=st.text(min_size=1, max_size=50) | st.integers(400, 700).map(lambda n: "\xfc" * n),
    kind=st.sampled_from([NotFoundError, ConflictError, RateLimitError]),
)
async def test_grpcs_own_reader_of_details_takes_ours(message, kind):
    error = await raised(kind(message))
    found = rpc_status.from_call(error)
    assert (found.code, found.message) == (error.status.value[0], error.details())
    assert found.details[0].type_url.endswith("google.rpc.ErrorInfo")


async def test_grpcs_own_reader_of_details_takes_our_calls():
    async def behavior(request, context):
        raise NotFoundError("no item 7")

    async with make_factory() as factory, serving(Server(Write=behavior), interceptors=CHAIN) as target:
        stub = Stub(await factory.create_channel(target, secure=False))
        found = await rpc_status.aio.from_call(stub.Write(text()))
    assert (found.code, found.message) == (5, "no item 7")


OWN = [
    own_error(cls, status, "nothing was sent", method="/a.B/C", reason="WHY", retry_after=1.0)
    for cls, status in [
        (CircuitOpenError, StatusCode.UNAVAILABLE),
        (ConnectionFailedError, StatusCode.UNAVAILABLE),
        (DeadlineSpentError, StatusCode.DEADLINE_EXCEEDED),
    ]
]
SENT = [
    remote_error(
        status, "what happened", method="/a.B/C", trailers=(("k", "v"),), headers=(("i-bin", b""),), debug="core"
    )
    for status in StatusCode
    if status is not StatusCode.OK
]


@pytest.mark.parametrize("error", OWN)
def test_an_error_that_no_server_sent_reads_alike(error):
    assert rpc_status.from_call(error).message == error.details() == "nothing was sent"
    assert error.code() is error.status
    assert not list(error.initial_metadata())


def pickled(error):
    return pickle.loads(pickle.dumps(error))  # noqa: S301  # our own


@pytest.mark.parametrize("double", [copy.copy, copy.deepcopy, pickled])
@pytest.mark.parametrize("error", [*OWN, *SENT], ids=lambda error: type(error).__name__)
def test_an_error_survives_copying_and_pickling(error, double):
    again = double(error)
    assert type(again) is type(error)
    assert vars(again) == vars(error)
    assert (str(again), repr(again), again.args) == (str(error), repr(error), error.args)
    assert str(again) == f"/a.B/C: {error.code().name}: {error.details()}"
    assert shown(again.trailing_metadata()) == shown(error.trailing_metadata())
