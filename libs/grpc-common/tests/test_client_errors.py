"""Statuses become the errors they were."""

import pytest
from google.protobuf import any_pb2
from google.rpc import status_pb2
from grpc import RpcError, StatusCode
from hypothesis import given, settings
from hypothesis import strategies as st

from client_kit import Server, Stub, make_factory, serving, text
from grpc_common.chain import Chain
from grpc_common.client.remote_error import (
    DETAIL_KEY,
    STATUS_KEY,
    RemoteError,
    RemoteNotFoundError,
    RemoteUnavailableError,
    remote_error,
)
from grpc_common.errors import (
    ERROR_STATUS_MAP,
    AppException,
    ConflictError,
    ExternalServiceError,
    FieldViolation,
    NotFoundError,
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
    assert error.reason == error.code == cls.code
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


async def test_an_own_code_arrives():
    class ItemLockedError(ConflictError):
        code = "ITEM_LOCKED"

    error = await raised(ItemLockedError("item 7 is locked"))
    assert isinstance(error, ConflictError)
    assert error.reason == "ITEM_LOCKED"
    assert error.code == "ITEM_LOCKED"
    assert ConflictError.code == "ALREADY_EXISTS"  # of the class, and of nobody else


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
