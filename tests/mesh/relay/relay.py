"""A service for tests that does as it is told: `python -m relay.relay`."""

import asyncio
import os
from collections import Counter
from contextlib import asynccontextmanager
from functools import partial

import grpc
from google.protobuf.wrappers_pb2 import StringValue
from pydantic import SecretStr
from pydantic_settings import SettingsConfigDict
from redis.asyncio import Redis
from redis.exceptions import NoPermissionError

from grpc_common.application import Application
from grpc_common.errors import ExternalServiceError
from grpc_common.run import run
from grpc_common.settings import ServiceSettings
from relay.v1 import relay_service_pb2  # noqa: F401 - the policies

SERVICE = "relay.v1.RelayService"


class RelaySettings(ServiceSettings):
    """What every service has, and a cache."""

    model_config = SettingsConfigDict(env_prefix="RELAY_")

    cache_url: SecretStr


class Relay:
    """Each method takes a text and answers with one."""

    def __init__(self, cache):
        self._attempts = Counter()
        self._cache = cache

    async def Echo(self, request, context):
        return StringValue(value=f"{request.value} from {os.getpid()}")

    async def Fail(self, request, context):
        """`KEY N` fails N times, then says how often it was tried."""
        key, _, times = request.value.partition(" ")
        self._attempts[key] += 1
        if self._attempts[key] <= int(times):
            raise ExternalServiceError("not yet")
        return StringValue(value=str(self._attempts[key]))

    async def Write(self, request, context):
        """The same, but nobody may repeat it."""
        return await self.Fail(request, context)

    async def Sleep(self, request, context):
        await asyncio.sleep(float(request.value))
        return StringValue(value="awake")

    async def Keep(self, request, context):
        """Puts a text under our own key and one of somebody else's; says what came of each."""
        answers = []
        for key in ("relay:kept", "other:kept"):
            try:
                await self._cache.set(key, request.value)
                answers.append((await self._cache.get(key)).decode())
            except NoPermissionError:
                answers.append("refused")
        return StringValue(value=", ".join(answers))

    async def Guarded(self, request, context):
        return StringValue(value="you may")

    async def Count(self, request, context):
        """`N PAUSE` counts to N with a pause before each."""
        until, pause = request.value.split()
        for number in range(int(until)):
            await asyncio.sleep(float(pause))
            yield StringValue(value=str(number))


def handlers(service, name, streams=()):
    """The handlers of all methods of a service, as generated code makes them."""
    found = {}
    for method in (each for each in dir(service) if each[0].isupper()):
        make = grpc.unary_stream_rpc_method_handler if method in streams else grpc.unary_unary_rpc_method_handler
        found[method] = make(getattr(service, method), StringValue.FromString, StringValue.SerializeToString)
    return grpc.method_handlers_generic_handler(name, found)


def register(server, *, handler):
    server.add_generic_rpc_handlers((handler,))


@asynccontextmanager
async def build(settings):
    async with Redis.from_url(settings.cache_url.get_secret_value()) as cache:
        yield Application(partial(register, handler=handlers(Relay(cache), SERVICE, streams={"Count"})))


if __name__ == "__main__":
    run(build, RelaySettings)
