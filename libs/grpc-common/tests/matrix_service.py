"""The conformance matrix's service with a policy and constraints, so that every interceptor has something to do."""

from buf.validate import validate_pb2
from google.protobuf import descriptor_pb2, descriptor_pool

from grpc_common.conformance.kinds import STYLES
from meshwork.policy.v1 import policy_pb2

SERVICE = "grpc_common.tests.matrix.v1.MatrixService"


def declare():
    """Put the service into the pool; its request is google.protobuf.StringValue by another name."""
    package, _, name = SERVICE.rpartition(".")
    file = descriptor_pb2.FileDescriptorProto(
        name=f"{package.replace('.', '/')}.proto",
        package=package,
        syntax="proto3",
        dependency=["meshwork/policy/v1/policy.proto", "buf/validate/validate.proto"],
    )
    request = file.message_type.add(name="Request")
    value = request.field.add(name="value", number=1, label=1, type=descriptor_pb2.FieldDescriptorProto.TYPE_STRING)
    value.options.Extensions[validate_pb2.field].string.const = "1"
    service = file.service.add(name=name)
    for style in STYLES:
        method = service.method.add(
            name=style.name,
            input_type=f".{package}.Request",
            output_type=f".{package}.Request",
            client_streaming=style.requests != "unary",
            server_streaming=style.replies != "unary",
        )
        policy = method.options.Extensions[policy_pb2.policy]
        policy.access.mode = policy_pb2.ACCESS_MODE_AUTHENTICATED
        policy.access.roles.append("editor")
        policy.timeout.FromSeconds(5)
        policy.rate.CopyFrom(policy_pb2.Rate(per_second=1000, burst=1000))
        policy.max_concurrent = 50
    descriptor_pool.Default().Add(file)


declare()
