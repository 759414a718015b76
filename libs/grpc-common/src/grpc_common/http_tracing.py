"""One OpenTelemetry span per request over HTTP."""

from http import HTTPMethod, HTTPStatus
from typing import Final

from opentelemetry import trace
from opentelemetry.context import attach, detach
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer, set_span_in_context

from grpc_common.asgi import ASGIApp, Message, Receive, Scope, Send
from grpc_common.shown_url import shown_path
from grpc_common.trace_context import extract

OTHER: Final = "_OTHER"
"""What OpenTelemetry's conventions call a method that nobody knows: names of spans are few."""

_METHODS: Final = frozenset(HTTPMethod)


class HTTPTracing:
    """A request is a span in its caller's trace, and the current one while the application works on it.

    There is no other: FastAPI, which observes requests by itself, with their queries, is kept from it.
    """

    def __init__(self, app: ASGIApp, tracer: Tracer | None = None) -> None:
        self._app = app
        self._tracer = tracer or trace.get_tracer("grpc_common")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        parent = extract([(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]])
        method = scope["method"] if scope["method"] in _METHODS else OTHER
        facts = {
            "http.request.method": method,
            "url.path": shown_path(scope["raw_path"]),
            "url.scheme": scope["scheme"],
        }
        span = self._tracer.start_span(method if method != OTHER else "HTTP", parent, SpanKind.SERVER, facts)
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
                _describe(span, method, scope, status)
            span.end()


def _describe(span: Span, method: str, scope: Scope, status: int) -> None:
    route = getattr(scope.get("route"), "path", "")  # as FastAPI has it: with names in place of what varies
    if route:
        span.update_name(f"{method} {route}")
        span.set_attribute("http.route", route)
    if status:
        span.set_attribute("http.response.status_code", status)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        span.set_attribute("error.type", str(status))
        span.set_status(Status(StatusCode.ERROR))
