"""What a service offers, by server reflection."""

from collections.abc import Sequence
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from grpc_common.client.channel import ClientChannel
from localmesh.failure import UsageError
from localmesh.topology import near

type Metadata = tuple[tuple[str, str], ...]

OF_ALL = ("grpc.health.", "grpc.reflection.")
"""What every service has beside its own."""
SECONDS = 10


class Reflected:
    """The API behind a channel; files are asked for as they are needed, and kept."""

    def __init__(self, channel: ClientChannel, metadata: Metadata) -> None:
        self.pool = descriptor_pool.DescriptorPool()
        self._stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        self._metadata = metadata
        self._files: set[str] = set()

    async def services(self) -> list[str]:
        """The full names of the services."""
        answer = await self._ask(reflection_pb2.ServerReflectionRequest(list_services=""))
        return sorted(each.name for each in answer.list_services_response.service)

    async def service(self, name: str) -> ServiceDescriptor:
        """The service of that full name."""
        answer = await self._ask(reflection_pb2.ServerReflectionRequest(file_containing_symbol=name))
        await self._add(answer.file_descriptor_response.file_descriptor_proto)
        return self.pool.FindServiceByName(name)

    async def own_services(self) -> list[ServiceDescriptor]:
        """The services that are not those every server has."""
        return [await self.service(name) for name in await self.services() if not name.startswith(OF_ALL)]

    async def method(self, name: str) -> MethodDescriptor:
        """The method `Name`, or `package.Service/Name` where several services have one; raises UsageError."""
        full, _, own = name.removeprefix("/").rpartition("/")
        known: dict[str, MethodDescriptor] = {}
        for service in [await self.service(full)] if full in await self.services() else await self.own_services():
            for method in service.methods:
                known[method.name] = method
        if own not in known:
            raise UsageError(f"there is no method {own}{near(own, known)}; --list names them")
        return known[own]

    async def _add(self, files: Sequence[bytes]) -> None:
        found = [descriptor_pb2.FileDescriptorProto.FromString(data) for data in files]
        given = {file.name for file in found}
        for file in found:
            for needed in file.dependency:
                if needed not in self._files and needed not in given:
                    asked = reflection_pb2.ServerReflectionRequest(file_by_filename=needed)
                    await self._add((await self._ask(asked)).file_descriptor_response.file_descriptor_proto)
        for file in found:
            self._insert(file, {each.name: each for each in found})

    def _insert(self, file: Any, among: dict[str, Any]) -> None:
        if file.name in self._files:
            return
        self._files.add(file.name)
        for needed in file.dependency:
            if needed in among:
                self._insert(among[needed], among)
        self.pool.Add(file)

    async def _ask(self, request: Any) -> Any:
        async with self._stub.ServerReflectionInfo([request], timeout=SECONDS, metadata=self._metadata) as answers:
            answer = await anext(answers)
        if answer.HasField("error_response"):
            raise UsageError(f"reflection: {answer.error_response.error_message}")
        return answer
