"""One OpenTelemetry span per request over HTTP."""

import re
from http import HTTPMethod, HTTPStatus
from typing import Final

from opentelemetry import trace
from opentelemetry.context import attach, detach
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer, set_span_in_context
from opentelemetry.util.types import AttributeValue

from grpc_common.asgi import ASGIApp, Message, Receive, Scope, Send
from grpc_common.http_front import FAILURE, MAX_METHOD
from grpc_common.shown_url import shown_path
from grpc_common.span_attributes import ERROR_TYPE, OTHER, server
from grpc_common.trace_context import extract

METHOD: Final = "http.request.method"
METHOD_ORIGINAL: Final = "http.request.method_original"
ROUTE: Final = "http.route"
STATUS: Final = "http.response.status_code"
PATH: Final = "url.path"
SCHEME: Final = "url.scheme"
VERSION: Final = "network.protocol.version"

MAX_HOST: Final = 253
"""Characters of a name in the DNS."""

_METHODS: Final = frozenset(HTTPMethod)
_HOST: Final = re.compile(rf"(\[[0-9A-Fa-f:.]{{2,45}}\]|[A-Za-z0-9._~-]{{1,{MAX_HOST}}})(?::([0-9]{{1,5}}))?")


class HTTPTracing:
    """A request is a span in its caller's trace, and the current one while the application works on it.

    There is no other: FastAPI, which observes requests by itself, with their queries, is kept from it. What spans say
    is named as in OpenTelemetry's semantic conventions for HTTP. No query is in them: it may hold secrets. Names are
    those of routes, which are few, and never paths.
    """

    def __init__(self, app: ASGIApp, tracer: Tracer | None = None) -> None:
        self._app = app
        self._tracer = tracer or trace.get_tracer("grpc_common")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]]
        parent = extract(headers)
        method = scope["method"] if scope["method"] in _METHODS else OTHER
        name = method if method != OTHER else "HTTP"
        span = self._tracer.start_span(name, parent, SpanKind.SERVER, _request(scope, method, headers))
        scope["fastapi.telemetry"] = None  # what FastAPI itself sets for a request that is not to be observed
        status = 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = int(message["status"])
            await send(message)

        token = attach(set_span_in_context(span, parent))
        try:
            await self._app(scope, receive, answer)
        finally:
            detach(token)
            if span.is_recording():
                _describe(span, name, scope, status)
            span.end()


def _request(scope: Scope, method: str, headers: list[tuple[str, str]]) -> dict[str, AttributeValue]:
    facts: dict[str, AttributeValue] = {
        METHOD: method,
        PATH: shown_path(scope["raw_path"]),
        SCHEME: scope["scheme"],
        VERSION: scope["http_version"],
    }
    if method == OTHER:
        facts[METHOD_ORIGINAL] = scope["method"][:MAX_METHOD]
    hosts = [value for name, value in headers if name == "host"]
    if len(hosts) == 1 and (found := _HOST.fullmatch(hosts[0])) is not None:
        host, port = found.groups()
        facts |= server(host.strip("[]"), int(port) if port else None)
    return facts


def _describe(span: Span, name: str, scope: Scope, status: int) -> None:
    route = getattr(scope.get("route"), "path", "")  # as FastAPI has it: with names in place of what varies
    if route:
        span.update_name(f"{name} {route}")
        span.set_attribute(ROUTE, route)
    if status:
        span.set_attribute(STATUS, status)
    failure = scope.get(FAILURE)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or failure is not None:
        kind = type(failure)
        own = f"{kind.__module__}.{kind.__qualname__}"  # after an answer has begun its status tells of no error
        span.set_attribute(ERROR_TYPE, str(status) if status >= HTTPStatus.INTERNAL_SERVER_ERROR else own)
        span.set_status(Status(StatusCode.ERROR))
