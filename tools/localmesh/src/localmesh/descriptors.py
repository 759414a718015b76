"""The protos of the services of a topology, as the program knows them: no file is read, none can be out of date."""

import importlib
import pkgutil
from collections.abc import Iterable, Iterator

from google.protobuf import descriptor_pool
from google.protobuf.descriptor import FileDescriptor, ServiceDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.rpc import error_details_pb2, status_pb2

from localmesh.failure import UsageError
from localmesh.topology import near

DETAILS = (status_pb2.DESCRIPTOR, error_details_pb2.DESCRIPTOR)
"""What the details of an error are made of: without it they cannot be written as JSON."""


def find_service(full_name: str) -> ServiceDescriptor:
    """The descriptor of a gRPC service; its generated code is `<package>.*_pb2`."""
    package = full_name.rpartition(".")[0]
    _import_package(package)
    pool = descriptor_pool.Default()
    try:
        return pool.FindServiceByName(full_name)
    except KeyError:
        known = list(_services_of(package))
        raise UsageError(f"there is no gRPC service {full_name}{near(full_name, known)}") from None


def descriptor_set(services: Iterable[ServiceDescriptor]) -> FileDescriptorSet:
    """The files of the services, of what they import and of the error details, each once and after its imports."""
    files: dict[str, FileDescriptor] = {}

    def add(file: FileDescriptor) -> None:
        if file.name not in files:
            for imported in file.dependencies:
                add(imported)
            files[file.name] = file

    for file in (*DETAILS, *(service.file for service in services)):
        add(file)
    result = FileDescriptorSet()
    for file in files.values():
        file.CopyToProto(result.file.add())
    return result


def _import_package(name: str) -> None:
    try:
        package = importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise UsageError(f"there is no generated code for the proto package {name}") from error
    for module in pkgutil.iter_modules(package.__path__, f"{name}."):
        if module.name.endswith("_pb2"):
            importlib.import_module(module.name)


def _services_of(package: str) -> Iterator[str]:
    for module in pkgutil.iter_modules(importlib.import_module(package).__path__, f"{package}."):
        if module.name.endswith("_pb2"):
            yield from (s.full_name for s in importlib.import_module(module.name).DESCRIPTOR.services_by_name.values())
