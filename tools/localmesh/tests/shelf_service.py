"""A service that has what ours do not: messages in messages, maps, JSON of any form, several ways to one method."""

from dataclasses import replace
from pathlib import Path

from google.api import annotations_pb2  # noqa: F401 - its options are in the text
from google.protobuf import descriptor_pool, struct_pb2, text_format, timestamp_pb2  # noqa: F401
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto

from grpc_common.policy import service_policies
from localmesh.certificates import Identity
from localmesh.intent.route import route_of
from localmesh.workload import Workload
from meshwork.policy.v1 import policy_pb2  # noqa: F401 - its options are in the text

PACKAGE = "shelf.v1"
POLICY = (
    "[meshwork.policy.v1.policy] { timeout { seconds: 20 } access { mode: ACCESS_MODE_ANONYMOUS } callers: 'ingress' }"
)


def _field(name: str, number: int, kind: str, label: str = "OPTIONAL") -> str:
    typed = f"type: TYPE_MESSAGE type_name: '{kind}'" if kind.startswith(".") else f"type: TYPE_{kind}"
    return f"field {{ name: '{name}' number: {number} label: LABEL_{label} {typed} }}\n"


def _map(name: str, number: int, kind: str) -> str:
    entry = "".join(part.capitalize() for part in name.split("_")) + "Entry"
    fields = _field("key", 1, "STRING") + _field("value", 2, kind)
    nested = f"nested_type {{ name: '{entry}' options {{ map_entry: true }} {fields} }}"
    return nested + _field(name, number, f".{PACKAGE}.Book.{entry}", "REPEATED")


def _method(name: str, request: str, http: str) -> str:
    options = f"options {{ [google.api.http] {{ {http} }} {POLICY} }}"
    return f"method {{ name: '{name}' input_type: '.{PACKAGE}.{request}' output_type: '.{PACKAGE}.Book' {options} }}\n"


GET_BOOK = """
get: '/v1/shelves/{shelf_id}/books/{book.name}'
additional_bindings { get: '/v1/books/{book.name}' }
additional_bindings { get: '/v1/titles/{book.display_name}' }
"""
TEXT = f"""
name: "shelf/v1/shelf_service.proto" package: "{PACKAGE}" syntax: "proto3"
dependency: "google/api/annotations.proto" dependency: "meshwork/policy/v1/policy.proto"
dependency: "google/protobuf/struct.proto" dependency: "google/protobuf/timestamp.proto"
message_type {{ name: "Author" {_field("full_name", 1, "STRING")} {
    _field("books", 2, f".{PACKAGE}.Book", "REPEATED")
} }}
message_type {{ name: "Book"
  {_field("name", 1, "STRING")} {_field("display_name", 2, "STRING")} {_field("author", 3, f".{PACKAGE}.Author")}
  {_field("tags", 4, "STRING", "REPEATED")} {_map("labels", 5, "STRING")} {_map("by_role", 6, f".{PACKAGE}.Author")}
  {_field("extra", 7, ".google.protobuf.Struct")} {_field("printed_at", 8, ".google.protobuf.Timestamp")}
  {_field("pages", 9, "INT64")} {_field("etag", 10, "STRING")}
}}
message_type {{ name: "BookRequest"
  {_field("shelf_id", 1, "STRING")} {_field("book", 2, f".{PACKAGE}.Book")} {_field("note", 3, "STRING")}
  {_field("more", 4, "STRING", "REPEATED")} {_field("etag", 5, "STRING")}
}}
service {{ name: "ShelfService"
  {_method("GetBook", "BookRequest", GET_BOOK)}
  {_method("UpdateBook", "BookRequest", "patch: '/v1/{book.name=shelves/*/books/*}' body: 'book'")}
  {_method("CreateBook", "BookRequest", "post: '/v1/shelves/{shelf_id}/books' body: '*'")}
}}
"""


def shelf_service() -> ServiceDescriptor:
    """The service, in the pool of all that is generated."""
    pool = descriptor_pool.Default()
    pool.Add(text_format.Parse(TEXT, FileDescriptorProto()))
    return pool.FindServiceByName(f"{PACKAGE}.ShelfService")


def shelf_workload(like: Workload, folder: Path) -> Workload:
    """A workload of it that is like another one in all else."""
    service = shelf_service()
    return replace(
        like,
        name="shelf",
        service_name="shelf",
        service=replace(like.service, grpc=(service.full_name,), http={}),
        grpc=(service,),
        routes=tuple(map(route_of, service_policies(service).values())),
        http=(),
        socket=folder / "shelf.sock",
        identity=Identity("shelf", folder / "shelf"),
    )
