"""The protos of two services for tests, made here as `protoc` would make them.

A module `tampered` on Python's path names in WITHOUT what is taken out of the policies: caller, role, retry, timeout.
"""

import importlib
import importlib.util

from google.protobuf import descriptor_pb2, descriptor_pool, text_format, wrappers_pb2

from meshwork.policy.v1 import policy_pb2

TEXT = f".{wrappers_pb2.StringValue.DESCRIPTOR.full_name}"
TAMPERED = importlib.util.find_spec("tampered") is not None
WITHOUT: frozenset[str] = importlib.import_module("tampered").WITHOUT if TAMPERED else frozenset()
OPEN = "access {mode: ACCESS_MODE_ANONYMOUS}"
READS = descriptor_pb2.MethodOptions.NO_SIDE_EFFECTS

RELAY = {
    "Echo": OPEN + ("" if "caller" in WITHOUT else ' callers: ["ingress", "front"]'),
    "Fail": OPEN + ("" if "retry" in WITHOUT else " retry {owner: RETRY_OWNER_MESH max_attempts: 3}"),
    "Sleep": OPEN + ("" if "timeout" in WITHOUT else " timeout {nanos: 500000000}"),
    "Guarded": "access {mode: ACCESS_MODE_AUTHENTICATED" + ("}" if "role" in WITHOUT else ' roles: ["auditor"]}'),
    "Write": OPEN,
    "Keep": OPEN,
    "Count": OPEN + " timeout {seconds: 60}",
}
RELAY_DEFAULT = 'timeout {seconds: 3} callers: ["front"]'
FRONT = {"Call": OPEN}
FRONT_DEFAULT = 'timeout {seconds: 20} callers: ["ingress"]'


def _add_service(file, name, default, methods):
    service = file.service.add(name=name)
    service.options.Extensions[policy_pb2.default_policy].CopyFrom(text_format.Parse(default, policy_pb2.Policy()))
    for method, policy in methods.items():
        added = service.method.add(name=method, input_type=TEXT, output_type=TEXT, server_streaming=method == "Count")
        added.options.Extensions[policy_pb2.policy].CopyFrom(text_format.Parse(policy, policy_pb2.Policy()))
        if method not in {"Write", "Call"}:
            added.options.idempotency_level = READS


def _file():
    file = descriptor_pb2.FileDescriptorProto(name="relay/v1/relay_service.proto", package="relay.v1", syntax="proto3")
    file.dependency.extend([wrappers_pb2.DESCRIPTOR.name, policy_pb2.DESCRIPTOR.name])
    _add_service(file, "RelayService", RELAY_DEFAULT, RELAY)
    _add_service(file, "FrontService", FRONT_DEFAULT, FRONT)
    return file


DESCRIPTOR = descriptor_pool.Default().AddSerializedFile(_file().SerializeToString())
