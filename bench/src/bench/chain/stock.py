"""What a team puts together today: the usual package for each feature, an interceptor each."""

import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import jwt
import structlog
from grpc import aio
from opentelemetry.instrumentation.grpc import aio_server_interceptor
from opentelemetry.sdk.trace import TracerProvider
from prometheus_client import Counter, Histogram

from bench.chain.tokens import AUDIENCE, ISSUER

HANDLED = Counter("stock_handled", "Calls.", ["method", "code"])
SECONDS = Histogram("stock_handling_seconds", "Seconds.", ["method"])

type Around = Callable[[Any, aio.ServicerContext[Any, Any], str, Callable[[Any, Any], Awaitable[Any]]], Awaitable[Any]]


class UnaryInterceptor(aio.ServerInterceptor):
    """Wraps the handler of a unary call, on every call, as the examples of grpc.aio do."""

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        handler = await continuation(handler_call_details)
        if handler is None or handler.unary_unary is None:
            return handler
        method = handler_call_details.method

        async def behavior(request: Any, context: Any) -> Any:
            return await self.around(request, context, method, handler.unary_unary)

        return grpc.unary_unary_rpc_method_handler(behavior, handler.request_deserializer, handler.response_serializer)

    async def around(self, request: Any, context: Any, method: str, call_next: Any) -> Any:
        raise NotImplementedError


class Metrics(UnaryInterceptor):
    async def around(self, request: Any, context: Any, method: str, call_next: Any) -> Any:
        started = time.perf_counter()
        try:
            return await call_next(request, context)
        finally:
            HANDLED.labels(method, str(context.code() or "OK")).inc()
            SECONDS.labels(method).observe(time.perf_counter() - started)


class AccessLog(UnaryInterceptor):
    def __init__(self) -> None:
        self._log = structlog.get_logger()

    async def around(self, request: Any, context: Any, method: str, call_next: Any) -> Any:
        started = time.perf_counter()
        metadata = dict(context.invocation_metadata())
        try:
            return await call_next(request, context)
        finally:
            self._log.info(
                "call",
                method=method,
                status=str(context.code() or "OK"),
                duration_ms=(time.perf_counter() - started) * 1000,
                correlation_id=metadata.get("x-correlation-id", ""),
                peer=context.peer(),
            )


class Errors(UnaryInterceptor):
    async def around(self, request: Any, context: Any, method: str, call_next: Any) -> Any:  # noqa: ARG002
        try:
            return await call_next(request, context)
        except aio.AbortError:
            raise
        except Exception:  # noqa: BLE001
            await context.abort(grpc.StatusCode.INTERNAL, "internal error")


class Auth(UnaryInterceptor):
    def __init__(self, jwks: Path) -> None:
        self._keys = {key.key_id: key.key for key in jwt.PyJWKSet.from_dict(json.loads(jwks.read_text())).keys}

    async def around(self, request: Any, context: Any, method: str, call_next: Any) -> Any:  # noqa: ARG002
        metadata = dict(context.invocation_metadata())
        token = metadata["authorization"].removeprefix("Bearer ")
        key = self._keys[jwt.get_unverified_header(token)["kid"]]
        jwt.decode(token, key, algorithms=["ES256"], audience=AUDIENCE, issuer=ISSUER)
        return await call_next(request, context)


def interceptors(provider: TracerProvider, jwks: Path) -> list[aio.ServerInterceptor]:
    """Return the stack, outermost first."""
    return [aio_server_interceptor(tracer_provider=provider), Metrics(), AccessLog(), Errors(), Auth(jwks)]
