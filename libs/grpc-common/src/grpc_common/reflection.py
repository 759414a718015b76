"""Server reflection, under both of its names.

The package serves `grpc.reflection.v1alpha` alone. `grpc.reflection.v1` is the same messages under another name, which
tools ask for first, and some ask for nothing else.
"""

from collections.abc import Iterable
from typing import Any, Final

import grpc
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha import reflection, reflection_pb2, reflection_pb2_grpc

V1: Final = "grpc.reflection.v1.ServerReflection"


class _Pool:
    """A pool in which methods are found by their names too, as `grpcurl describe pkg.Service.Method` asks for them."""

    def __init__(self, pool: DescriptorPool) -> None:
        self._pool = pool

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)

    def FindFileContainingSymbol(self, symbol: str) -> FileDescriptor:  # noqa: N802
        try:
            return self._pool.FindFileContainingSymbol(symbol)
        except KeyError:
            service, _, method = symbol.rpartition(".")
            if method not in self._pool.FindServiceByName(service).methods_by_name:
                raise
            return self._pool.FindFileContainingSymbol(service)


def add_reflection(services: Iterable[str], server: Any) -> None:
    """Let `server` describe `services`, by full name, to those who ask."""
    # v1 itself is not among them: its descriptors are not in the pool, and a tool that describes all would fail.
    pool: Any = _Pool(descriptor_pool.Default())
    servicer = reflection.aio.ReflectionServicer([*services, reflection.SERVICE_NAME], pool)
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(servicer, server)
    handlers = {
        "ServerReflectionInfo": grpc.stream_stream_rpc_method_handler(
            servicer.ServerReflectionInfo,
            request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
            response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
        )
    }
    server.add_registered_method_handlers(V1, handlers)
