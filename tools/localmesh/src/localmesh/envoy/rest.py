"""What the transcoder does not refuse of REST requests, as Lua that is made from the descriptors.

Three filters: `arrive` outermost, `look` before the transcoder, `refuse` after the tokens. They find out what a request
means from what the transcoder has made of it, so that they cannot take it for another one.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.resources import files
from typing import Any

from google.protobuf.descriptor import ServiceDescriptor

from localmesh.envoy.config import Config, extension
from localmesh.intent.rest import Binding, Field, RestMethod, messages, rest_methods

MAX_BODY = 1 << 20
"""Bytes of a REST request's body; all of it is read before anything is answered."""
MAX_TAKEN = 64 << 20
"""Bytes of a body that is too large which are taken, and thrown away, before that is said."""
BUFFER = "envoy.filters.http.buffer"


def arrive(realm: str) -> Config:
    """Goes before all that may refuse a call, but for CORS."""
    limits = f"local MAX_BODY, MAX_TAKEN = {MAX_BODY}, {MAX_TAKEN}"
    return _lua("arrive", f"local REALM = {_literal(realm)}\n{limits}\n", "arrive")


def look(services: Sequence[ServiceDescriptor]) -> Config:
    """Goes before the transcoder."""
    return _lua("look", _tables(services), "binding", "json", "look")


def refuse(services: Sequence[ServiceDescriptor]) -> Config:
    """Goes after the tokens."""
    return _lua("refuse", _tables(services), "binding", "query", "precondition", "refuse")


def buffered() -> Config:
    """Reads a whole body first: some clients take an answer that comes before they have sent all for a failure."""
    return extension(BUFFER, "filters.http.buffer.v3.Buffer", max_request_bytes=MAX_BODY)


def unbuffered() -> Config:
    """What a route says whose bodies may be endless."""
    return {
        BUFFER: {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.buffer.v3.BufferPerRoute",
            "disabled": True,
        }
    }


def _lua(name: str, tables: str, *modules: str) -> Config:
    folder = files("localmesh.envoy") / "lua"
    source = "\n".join((tables, *((folder / f"{module}.lua").read_text() for module in modules)))
    return extension(
        f"envoy.filters.http.lua.{name}",
        "filters.http.lua.v3.Lua",
        default_source_code={"inline_string": source},
        stat_prefix=name,
    )


def _tables(services: Sequence[ServiceDescriptor]) -> str:
    methods = {each.path: _method(each) for each in rest_methods(services)}
    types = {name: dict(_names(fields)) for name, fields in messages(services).items()}
    return f"TYPES = {_literal(types)}\nMETHODS = {_literal(methods)}\n"


def _method(method: RestMethod) -> dict[str, Any]:
    return {"request": method.request, "etag": method.etag, "bindings": [_binding(each) for each in method.bindings]}


def _binding(binding: Binding) -> dict[str, Any]:
    return {
        "verb": binding.http_method,
        "template": binding.template,
        "patterns": [_pattern(binding.segments)],
        "bound": dict.fromkeys(binding.bound, True),
        "body": binding.body,
    }


def _pattern(segments: str) -> str:
    """A Lua pattern for a path: `*` is one segment, `**` are any."""
    parts = segments.replace("**", "\0").replace("*", "\1")
    escaped = "".join(f"%{c}" if not c.isalnum() and c not in "/\0\1" else c for c in parts)
    return "^" + escaped.replace("\0", ".*").replace("\1", "[^/]+") + "$"


def _names(fields: Iterable[Field]) -> Iterator[tuple[str, dict[str, Any]]]:
    for field in fields:
        said = {"name": field.name, "type": field.type, "many": field.many, "keyed": field.keyed}
        yield field.name, said
        yield field.json_name, said


def _literal(value: Any) -> str:
    match value:
        case Mapping():
            return "{" + ", ".join(f"[{_literal(k)}] = {_literal(v)}" for k, v in value.items() if v is not None) + "}"
        case list():
            return "{" + ", ".join(map(_literal, value)) + "}"
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case str():
            return json.dumps(value, ensure_ascii=True) if value.isascii() else _bytes(value)
        case _:
            raise TypeError(f"{value!r} has no literal in Lua")


def _bytes(text: str) -> str:
    return '"' + "".join(f"\\{byte:03d}" for byte in text.encode()) + '"'
