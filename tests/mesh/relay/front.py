"""A service for tests that calls the relay, by what its sidecar gives it: `python -m relay.front`."""

import asyncio
import json
import time
from contextlib import asynccontextmanager
from functools import partial

import grpc
from google.protobuf.wrappers_pb2 import StringValue
from pydantic_settings import SettingsConfigDict

from grpc_common.application import Application
from grpc_common.run import run
from grpc_common.settings import ServiceSettings
from grpc_common.trace_context import inject
from relay import relay
from relay.v1 import relay_service_pb2  # noqa: F401 - the policies

SERVICE = "relay.v1.FrontService"


class FrontSettings(ServiceSettings):
    """Where the relay is."""

    model_config = SettingsConfigDict(env_prefix="FRONT_")

    relay_target: str


class Front:
    """Calls whatever method it is told to, and tells how that went."""

    def __init__(self, channel):
        self._channel = channel

    async def Call(self, request, context):
        """Takes {"path", "argument", "timeout", "token", "times", "stream"}; returns how each went."""
        asked = json.loads(request.value)
        outcomes = await asyncio.gather(*(self._once(asked) for _ in range(asked.get("times", 1))))
        return StringValue(value=json.dumps(outcomes))

    async def _once(self, asked):
        make = self._channel.unary_stream if asked.get("stream") else self._channel.unary_unary
        method = make(asked["path"], StringValue.SerializeToString, StringValue.FromString)
        token = asked.get("token")
        metadata = inject((("authorization", f"Bearer {token}"),) if token else ())
        began = time.monotonic()
        outcome = {"code": "OK", "details": "", "replies": []}
        try:
            call = method(StringValue(value=asked["argument"]), timeout=asked.get("timeout"), metadata=metadata)
            if asked.get("stream"):
                outcome["replies"] = [reply.value async for reply in call]
            else:
                outcome["replies"] = [(await call).value]
        except grpc.aio.AioRpcError as error:
            outcome |= {"code": error.code().name, "details": error.details()}
        return outcome | {"seconds": time.monotonic() - began}


@asynccontextmanager
async def build(settings):
    # What is repeated is to be the mesh's doing: this client repeats nothing.
    async with grpc.aio.insecure_channel(settings.relay_target, options=[("grpc.enable_retries", 0)]) as channel:
        yield Application(partial(relay.register, handler=relay.handlers(Front(channel), SERVICE)))


if __name__ == "__main__":
    run(build, FrontSettings)
