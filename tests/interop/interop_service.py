"""The service that gRPC's interop clients call, `grpc.testing.TestService`.

Its messages and methods are those of `src/proto/grpc/testing/{messages,test}.proto` in grpc/grpc-proto; what each
method does is described in `doc/interop-test-descriptions.md` of grpc/grpc.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, text_format
from google.protobuf.message_factory import GetMessageClass

from meshwork.policy.v1 import policy_pb2

PACKAGE: Final = "grpc.testing"
SERVICE: Final = f"{PACKAGE}.TestService"
ECHO_INITIAL, ECHO_TRAILING = "x-grpc-test-echo-initial", "x-grpc-test-echo-trailing-bin"
MICROSECOND: Final = 1e-6
MESSAGES: Final = {
    "Empty": "",
    "BoolValue": "bool value = 1",
    "Payload": "int32 type = 1, bytes body = 2",
    "EchoStatus": "int32 code = 1, string message = 2",
    "SimpleRequest": "int32 response_type = 1, int32 response_size = 2, Payload payload = 3, bool fill_username = 4, "
    "bool fill_oauth_scope = 5, BoolValue response_compressed = 6, EchoStatus response_status = 7, "
    "BoolValue expect_compressed = 8, bool fill_server_id = 9",
    "SimpleResponse": "Payload payload = 1, string username = 2, string oauth_scope = 3, string server_id = 4",
    "StreamingInputCallRequest": "Payload payload = 1, BoolValue expect_compressed = 2",
    "StreamingInputCallResponse": "int32 aggregated_payload_size = 1",
    "ResponseParameters": "int32 size = 1, int32 interval_us = 2, BoolValue compressed = 3",
    "StreamingOutputCallRequest": "int32 response_type = 1, repeated ResponseParameters response_parameters = 2, "
    "Payload payload = 3, EchoStatus response_status = 7",
    "StreamingOutputCallResponse": "Payload payload = 1",
}
METHODS: Final = {
    "EmptyCall": ("Empty", "Empty"),
    "UnaryCall": ("SimpleRequest", "SimpleResponse"),
    "StreamingOutputCall": ("StreamingOutputCallRequest", "stream StreamingOutputCallResponse"),
    "StreamingInputCall": ("stream StreamingInputCallRequest", "StreamingInputCallResponse"),
    "FullDuplexCall": ("stream StreamingOutputCallRequest", "stream StreamingOutputCallResponse"),
    "HalfDuplexCall": ("stream StreamingOutputCallRequest", "stream StreamingOutputCallResponse"),
    "UnimplementedCall": ("Empty", "Empty"),
}
POLICY: Final = "access {mode: ACCESS_MODE_ANONYMOUS} timeout {seconds: 60}"


def _field(message: descriptor_pb2.DescriptorProto, declared: str) -> None:
    *label, kind, name, _, number = declared.split()
    kinds = descriptor_pb2.FieldDescriptorProto
    field = message.field.add(name=name, number=int(number), label=kinds.LABEL_OPTIONAL)
    if label:
        field.label = kinds.LABEL_REPEATED
    if kind in MESSAGES:
        field.type, field.type_name = kinds.TYPE_MESSAGE, f".{PACKAGE}.{kind}"
    else:
        field.type = kinds.Type.Value(f"TYPE_{kind.upper()}")


def _file() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(name="grpc/testing/test.proto", package=PACKAGE, syntax="proto3")
    file.dependency.append(policy_pb2.DESCRIPTOR.name)
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for field in filter(None, fields.split(", ")):
            _field(message, field)
    service = file.service.add(name="TestService")
    policy = text_format.Parse(POLICY, policy_pb2.Policy())
    for name, (request, reply) in METHODS.items():
        method = service.method.add(
            name=name,
            input_type=f".{PACKAGE}.{request.split()[-1]}",
            output_type=f".{PACKAGE}.{reply.split()[-1]}",
            client_streaming=request.startswith("stream"),
            server_streaming=reply.startswith("stream"),
        )
        method.options.Extensions[policy_pb2.policy].CopyFrom(policy)
    return file


POOL = descriptor_pool.Default()
DESCRIPTOR = POOL.AddSerializedFile(_file().SerializeToString())


def _message(name: str) -> Any:
    return GetMessageClass(POOL.FindMessageTypeByName(f"{PACKAGE}.{name}"))


SimpleResponse = _message("SimpleResponse")
StreamingInputCallResponse = _message("StreamingInputCallResponse")
StreamingOutputCallResponse = _message("StreamingOutputCallResponse")


class TestService:
    """What the interop clients expect of a server."""

    async def EmptyCall(self, request: Any, context: Any) -> Any:
        await _echo_metadata(context)
        return type(request)()

    async def UnaryCall(self, request: Any, context: Any) -> Any:
        await _echo_metadata(context)
        await _echo_status(request, context)
        server_id = "meshwork" if request.fill_server_id else ""
        return SimpleResponse(payload={"body": bytes(request.response_size)}, server_id=server_id)

    async def StreamingOutputCall(self, request: Any, context: Any) -> AsyncIterator[Any]:
        async for reply in self._ordered(request):
            yield reply

    async def StreamingInputCall(self, requests: AsyncIterator[Any], context: Any) -> Any:
        size = 0
        async for request in requests:
            size += len(request.payload.body)
        return StreamingInputCallResponse(aggregated_payload_size=size)

    async def FullDuplexCall(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        await _echo_metadata(context)
        async for request in requests:
            await _echo_status(request, context)
            async for reply in self._ordered(request):
                yield reply

    async def HalfDuplexCall(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        for request in [each async for each in requests]:
            async for reply in self._ordered(request):
                yield reply

    async def _ordered(self, request: Any) -> AsyncIterator[Any]:
        for wanted in request.response_parameters:
            await asyncio.sleep(wanted.interval_us * MICROSECOND)
            yield StreamingOutputCallResponse(payload={"body": bytes(wanted.size)})

    def register(self, server: Any) -> None:
        """Add it to `server`; UnimplementedCall stays what it says."""
        handlers = {}
        for method in DESCRIPTOR_METHODS:
            behavior = getattr(self, method.name, None)
            if behavior is not None:
                handlers[method.name] = getattr(grpc, f"{_kind(method)}_rpc_method_handler")(
                    behavior,
                    request_deserializer=GetMessageClass(method.input_type).FromString,
                    response_serializer=GetMessageClass(method.output_type).SerializeToString,
                )
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))


DESCRIPTOR_METHODS = POOL.FindServiceByName(SERVICE).methods


def _kind(method: Any) -> str:
    parts = {False: "unary", True: "stream"}
    return f"{parts[method.client_streaming]}_{parts[method.server_streaming]}"


async def _echo_metadata(context: Any) -> None:
    sent = dict(context.invocation_metadata() or ())
    if ECHO_INITIAL in sent:
        await context.send_initial_metadata(((ECHO_INITIAL, sent[ECHO_INITIAL]),))
    if ECHO_TRAILING in sent:
        context.set_trailing_metadata(((ECHO_TRAILING, sent[ECHO_TRAILING]),))


async def _echo_status(request: Any, context: Any) -> None:
    wanted = request.response_status
    if wanted.code:
        status = next(code for code in grpc.StatusCode if code.value[0] == wanted.code)
        await context.abort(status, wanted.message, context.trailing_metadata() or ())
