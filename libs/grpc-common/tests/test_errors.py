"""Errors: each class to its status, both trailers, and nothing that must not be told."""

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc import StatusCode
from hypothesis import example, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from grpc_common import errors
from grpc_common.error_trailers import MAX_STATUS, clip, error_details, error_trailers
from grpc_common.errors import ERROR_STATUS_MAP, FieldViolation, exception_to_status
from grpc_common.http_hints import http_hints
from grpc_common.jwt_service import insufficient
from grpc_common.testing import in_process
from meshwork.common.v1 import errors_pb2
from meshwork.items.v1 import items_service_pb2 as pb
from meshwork.items.v1 import items_service_pb2_grpc as rpc

EXPECTED = {
    errors.ValidationError: StatusCode.INVALID_ARGUMENT,
    errors.NotFoundError: StatusCode.NOT_FOUND,
    errors.UnauthorizedError: StatusCode.UNAUTHENTICATED,
    errors.ForbiddenError: StatusCode.PERMISSION_DENIED,
    errors.ConflictError: StatusCode.ALREADY_EXISTS,
    errors.PreconditionError: StatusCode.FAILED_PRECONDITION,
    errors.AbortedError: StatusCode.ABORTED,
    errors.OutOfRangeError: StatusCode.OUT_OF_RANGE,
    errors.RateLimitError: StatusCode.RESOURCE_EXHAUSTED,
    errors.ExternalServiceError: StatusCode.UNAVAILABLE,
    errors.DatabaseError: StatusCode.INTERNAL,
}


class ItemLockedError(errors.ConflictError):
    reason = "ITEM_LOCKED"


class Raising(rpc.ItemServiceServicer):
    error: BaseException

    async def GetItem(self, request, context):
        raise self.error


async def failed(error):
    """Raise `error` in a handler; return the client's error and both details."""
    servicer = Raising()
    servicer.error = error
    async with in_process(lambda server: rpc.add_ItemServiceServicer_to_server(servicer, server)) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await rpc.ItemServiceStub(channel).GetItem(pb.GetItemRequest(id="1"), timeout=5)
    trailers = dict(caught.value.trailing_metadata())
    detail = errors_pb2.ErrorDetail.FromString(trailers["error-detail-bin"])
    status = status_pb2.Status.FromString(trailers["grpc-status-details-bin"])
    return caught.value, detail, status


def unpack(status, kind):
    found = kind()
    assert [True for detail in status.details if detail.Unpack(found)] == [True]
    return found


def test_the_map_is_the_specification():
    assert ERROR_STATUS_MAP == EXPECTED


class QuotaSpentError(errors.AppException):
    """An error of a service's own, with a status that no class of the library has."""

    status = StatusCode.DATA_LOSS
    reason = "QUOTA_SPENT"


class FrozenItemError(ItemLockedError):
    """It has its parent's reason and another status."""

    status = StatusCode.FAILED_PRECONDITION


async def test_an_error_of_ones_own_has_its_own_status_and_reason():
    error, detail, status = await failed(QuotaSpentError("nothing is left"))
    assert (error.code(), error.details()) == (StatusCode.DATA_LOSS, "nothing is left")
    assert detail.code == unpack(status, error_details_pb2.ErrorInfo).reason == "QUOTA_SPENT"
    error, detail, _ = await failed(FrozenItemError("it is frozen"))
    assert (error.code(), detail.code) == (StatusCode.FAILED_PRECONDITION, "ITEM_LOCKED")
    assert exception_to_status(ItemLockedError("x"))[0] is StatusCode.ALREADY_EXISTS


@pytest.mark.parametrize("status", [StatusCode.OK, 9, "FAILED_PRECONDITION", None])
def test_an_error_without_the_status_of_an_error_cannot_be_defined(status):
    with pytest.raises(TypeError, match=r"QuotaError\.status must be a grpc.StatusCode other than OK"):
        type("QuotaError", (errors.AppException,), {"status": status})


@settings(max_examples=200, deadline=None)
@given(kind=st.sampled_from([*EXPECTED, ItemLockedError]), message=st.text(), field=st.text(max_size=20))
def test_every_error_has_the_status_of_its_kind(kind, message, field):
    """**Feature: grpc-microservices-support, Property 3: Domain Error to gRPC Status Mapping**"""
    status, text = exception_to_status(kind(message, field=field))
    assert status is EXPECTED.get(kind, StatusCode.ALREADY_EXISTS)
    assert isinstance(text, str)
    if message:
        assert text == message


@pytest.mark.parametrize("error", [KeyError("secret"), ExceptionGroup("secret", [KeyError()]), Exception("secret")])
def test_a_strangers_text_is_not_passed_on(error):
    assert exception_to_status(error) == (StatusCode.INTERNAL, "internal error")


@settings(max_examples=100, deadline=None)
@given(
    kind=st.sampled_from([*EXPECTED, ItemLockedError]),
    message=st.text(min_size=1, max_size=2000),
    field=st.text(max_size=2000),
    metadata=st.dictionaries(st.text(max_size=100), st.text(max_size=2000), max_size=20),
)
@example(errors.NotFoundError, "\ud800 half a pair", "\ud800", {"\ud800": "\ud800"})
@example(errors.NotFoundError, "ü" * 10_000, "ü" * 10_000, {str(n): "ü" * 10_000 for n in range(50)})
@example(errors.NotFoundError, "line\r\nx-forged: 1\x00", "", {})
async def test_every_error_reaches_the_caller_whatever_it_holds(kind, message, field, metadata):
    """**Feature: grpc-microservices-support, Property 3: Domain Error to gRPC Status Mapping**"""
    error, detail, status = await failed(kind(message, field=field, metadata=metadata))
    assert error.code() is EXPECTED.get(kind, StatusCode.ALREADY_EXISTS)
    assert detail.code == kind.reason == unpack(status, error_details_pb2.ErrorInfo).reason
    assert status.code == error.code().value[0]
    assert "x-forged" not in dict(error.trailing_metadata())


@settings(max_examples=100, deadline=None)
@given(secret=st.text("abcdefghijk", min_size=12), kind=st.sampled_from([KeyError, RuntimeError, OSError, ValueError]))
async def test_an_error_nobody_planned_for_tells_only_its_id(secret, kind):
    with capture_logs() as logs:
        error, detail, status = await failed(kind(secret))
    assert error.code() is StatusCode.INTERNAL
    assert secret not in f"{error.details()} {error.trailing_metadata()} {detail} {status}"
    assert detail.metadata["error_id"] in error.details()
    assert [line["error_id"] for line in logs if line["event"] == "call failed"] == [detail.metadata["error_id"]]
    assert [repr(line["exc_info"]) for line in logs if "exc_info" in line] == [repr(kind(secret))]


async def test_every_violation_is_reported():
    violations = [FieldViolation("name", "must not be empty"), FieldViolation("price", "must be 0 or more")]
    error, detail, status = await failed(errors.ValidationError(violations=violations))
    assert detail.field == "name"
    assert error.details() == "name: must not be empty; price: must be 0 or more"
    bad = unpack(status, error_details_pb2.BadRequest)
    assert [(each.field, each.description) for each in bad.field_violations] == [
        ("name", "must not be empty"),
        ("price", "must be 0 or more"),
    ]


async def test_more_violations_than_metadata_can_hold():
    violations = [FieldViolation(f"[{at}].name", "must not be empty " * 10) for at in range(1000)]
    error, _, status = await failed(errors.ValidationError(violations=violations))
    assert error.code() is StatusCode.INVALID_ARGUMENT
    assert unpack(status, error_details_pb2.BadRequest).field_violations[0].field == "[0].name"


@settings(max_examples=200, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 300), min_size=1, max_size=60),
    text=st.integers(0, 600),
    field=st.sampled_from(["name", "[17].name", "a" * 256]),
)
def test_of_many_violations_the_first_that_fit_are_told_whole(lengths, text, field):
    violations = [FieldViolation(field, f"{at:03}" + "x" * length) for at, length in enumerate(lengths)]
    error = errors.ValidationError("x" * text, violations=violations)
    trailers = error_trailers(error, error.status, error.message, domain="test", facts={"trace_id": "1"})
    packed = dict(trailers)["grpc-status-details-bin"]
    assert len(packed) <= MAX_STATUS
    told = unpack(status_pb2.Status.FromString(packed), error_details_pb2.BadRequest).field_violations
    expected = [(each.field, clip(each.message, 256)) for each in violations]
    assert [(each.field, each.description) for each in told] == expected[: len(told)]
    if len(told) < len(violations):
        assert len(packed) > MAX_STATUS - 64 - 3 - 2 * 260  # one more would have been too much


async def test_a_single_field_is_a_violation():
    _, detail, status = await failed(errors.ValidationError("must not be empty", field="id"))
    assert (detail.field, detail.message) == ("id", "must not be empty")
    (told,) = unpack(status, error_details_pb2.BadRequest).field_violations
    assert (told.field, told.description) == ("id", "must not be empty")


def test_the_violations_stay_as_they_are_where_a_field_is_named_too():
    violations = (FieldViolation("a", "is short"), FieldViolation("b", "is long"))
    error = errors.ValidationError("no", violations=violations, field="b")
    assert (error.violations, error.field, error.message) == (violations, "b", "no")
    assert errors.ValidationError("no").violations == ()
    assert str(errors.ValidationError()) == "the request is not valid"


@pytest.mark.parametrize("kind", [*EXPECTED, ItemLockedError])
async def test_the_caller_sees_the_field_and_the_facts_of_every_error(kind):
    error, detail, status = await failed(kind("no such", field="item.id", metadata={"item": "7"}))
    assert error.details() == detail.message == status.message == "no such"
    assert detail.field == "item.id"
    assert detail.metadata["item"] == unpack(status, error_details_pb2.ErrorInfo).metadata["item"] == "7"


def test_an_error_without_a_field_names_none():
    kinds = [*EXPECTED, errors.AppException]
    assert [(kind("no").field, kind("no").metadata) for kind in kinds] == [("", {})] * len(kinds)


def test_an_error_of_a_part_has_a_detail_for_each_bad_field():
    violations = [FieldViolation("a", "is short"), FieldViolation("b", "is long")]
    assert error_details(errors.ValidationError(violations=violations)) == [
        errors_pb2.ErrorDetail(code="INVALID_ARGUMENT", message="is short", field="a"),
        errors_pb2.ErrorDetail(code="INVALID_ARGUMENT", message="is long", field="b"),
    ]
    assert error_details(errors.NotFoundError("no such", field="id", metadata={"item": "7"})) == [
        errors_pb2.ErrorDetail(code="NOT_FOUND", message="no such", field="id", metadata={"item": "7"})
    ]
    assert error_details(errors.ValidationError("no")) == [
        errors_pb2.ErrorDetail(code="INVALID_ARGUMENT", message="no")
    ]


async def test_a_rate_limit_says_when_to_come_back():
    _, _, status = await failed(errors.RateLimitError("too many", retry_after=1.5))
    delay = unpack(status, error_details_pb2.RetryInfo).retry_delay
    assert delay.seconds + delay.nanos / 1e9 == 1.5


@pytest.mark.parametrize("error", [TimeoutError("secret"), ExceptionGroup("", [TimeoutError("secret")])])
async def test_a_timeout_is_a_deadline(error):
    failure, detail, _ = await failed(error)
    assert failure.code() is StatusCode.DEADLINE_EXCEEDED
    assert detail.code == "DEADLINE_EXCEEDED"
    assert "secret" not in failure.details()


async def test_the_trailers_a_handler_has_set_stay():
    class Setting(rpc.ItemServiceServicer):
        async def GetItem(self, request, context):
            context.set_trailing_metadata((("next-page-token", "x"),))
            if request.id == "lost":
                raise errors.NotFoundError("no")
            return pb.Item()

    async with in_process(lambda server: rpc.add_ItemServiceServicer_to_server(Setting(), server)) as channel:
        for item in ("kept", "lost"):
            call = rpc.ItemServiceStub(channel).GetItem(pb.GetItemRequest(id=item))
            trailers = dict(await call.trailing_metadata())
            assert trailers["next-page-token"] == "x"
            assert trailers["x-correlation-id"]
            assert ("error-detail-bin" in trailers) == (item == "lost")


TOKENLESS = errors.UnauthorizedError("log in", metadata={"reason": "missing"})
EXPIRED = errors.UnauthorizedError("token expired", metadata={"reason": "expired"})


@pytest.mark.parametrize(
    ("error", "name", "value"),
    [
        (TOKENLESS, "www-authenticate", 'Bearer realm="meshwork"'),
        (errors.UnauthorizedError("wrong password"), "www-authenticate", 'Bearer realm="meshwork"'),
        (EXPIRED, "www-authenticate", 'Bearer realm="meshwork", error="invalid_token"'),
        (insufficient("no"), "www-authenticate", 'Bearer realm="meshwork", error="insufficient_scope"'),
        (
            insufficient("no", ["a:b", "c"]),
            "www-authenticate",
            'Bearer realm="meshwork", error="insufficient_scope", scope="a:b c"',
        ),
        (insufficient("no", ['a"b']), "www-authenticate", 'Bearer realm="meshwork", error="insufficient_scope"'),
        (errors.RateLimitError("slower", retry_after=0.0), "retry-after", "1"),
        (errors.RateLimitError("slower", retry_after=2.1), "retry-after", "3"),
        (errors.RateLimitError("slower", retry_after=60), "retry-after", "60"),
        (errors.RateLimitError("slower", retry_after=1e6), "retry-after", "86400"),
        (errors.RateLimitError("slower"), "www-authenticate", None),
        (errors.ForbiddenError("no"), "www-authenticate", None),
        (EXPIRED, "retry-after", None),
        (ValueError("x"), "retry-after", None),
    ],
)
async def test_what_becomes_of_it_over_http_is_told_in_trailers(error, name, value):
    """RFC 9110 §11.6.1: a 401 names a way to log in; §10.2.3: whole seconds until it is worth another try."""
    caught, _, _ = await failed(error)
    assert dict(caught.trailing_metadata()).get(name) == value


@pytest.mark.parametrize(
    ("wait", "told"), [(float("inf"), "86400"), (float("nan"), None), (-1.0, "1"), (1e300, "86400")]
)
def test_a_wait_that_is_no_number_of_seconds_is_told_as_one_or_not_at_all(wait, told):
    error = errors.RateLimitError("slower", retry_after=wait)
    assert dict(http_hints(error, StatusCode.RESOURCE_EXHAUSTED)).get("retry-after") == told


async def test_an_error_says_in_which_trace_it_is_found():
    trace = "0af7651916cd43dd8448eb211c80319c"
    servicer = Raising()
    servicer.error = errors.NotFoundError("no such item")
    metadata = (("traceparent", f"00-{trace}-b7ad6b7169203331-01"),)
    async with in_process(lambda server: rpc.add_ItemServiceServicer_to_server(servicer, server)) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await rpc.ItemServiceStub(channel).GetItem(pb.GetItemRequest(id="1"), metadata=metadata, timeout=5)
    trailers = dict(caught.value.trailing_metadata())
    assert errors_pb2.ErrorDetail.FromString(trailers["error-detail-bin"]).metadata["trace_id"] == trace
    status = status_pb2.Status.FromString(trailers["grpc-status-details-bin"])
    assert unpack(status, error_details_pb2.ErrorInfo).metadata["trace_id"] == trace
