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
        order = json.dumps({"path": path, "argument": argument, "times": times, **asked})
        return json.loads(self._call("/relay.v1.FrontService/Call", order))

    def directly(self, method, argument=""):
        """The status of a call of our own to the relay, past the front."""
        try:
            self._call(f"{RELAY}/{method}", argument)
        except grpc.RpcError as error:
            return error.code().name
        return "OK"

    def _call(self, path, text):
        metadata = (("authorization", f"Bearer {self._mesh.token()}"),)
        credentials = grpc.ssl_channel_credentials(self._mesh.root_certificate())
        with grpc.secure_channel(f"localhost:{self._mesh.port}", credentials) as channel:
            call = channel.unary_unary(path, StringValue.SerializeToString, StringValue.FromString)
            return call(StringValue(value=text), timeout=30, wait_for_ready=True, metadata=metadata).value
