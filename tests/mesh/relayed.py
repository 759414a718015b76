"""What tests say to the front, and what they hear of it."""

import json

import grpc
from google.protobuf.wrappers_pb2 import StringValue

RELAY = "/relay.v1.RelayService"


class Front:
    """Calls of the front to the relay, ordered through the ingress."""

    def __init__(self, mesh):
        self._mesh = mesh

    def __call__(self, method, argument="", **asked):
        """How one call went: code, details, replies, seconds."""
        (outcome,) = self.many(1, method, argument, **asked)
        return outcome

    def many(self, times, method, argument="", **asked):
        """The same call several times at once."""
        path = method if method.startswith("/") else f"{RELAY}/{method}"
        order = StringValue(value=json.dumps({"path": path, "argument": argument, "times": times, **asked}))
        credentials = grpc.ssl_channel_credentials(self._mesh.root_certificate())
        with grpc.secure_channel(f"localhost:{self._mesh.port}", credentials) as channel:
            call = channel.unary_unary(
                "/relay.v1.FrontService/Call", StringValue.SerializeToString, StringValue.FromString
            )
            return json.loads(call(order, timeout=30, wait_for_ready=True).value)
