"""What the server itself says about a request that no application answers (RFC 9457)."""

import json
from collections.abc import Iterable
from http import HTTPStatus

from grpc_common.asgi import Send


async def send_problem(
    send: Send,
    status: HTTPStatus,
    detail: str,
    headers: Iterable[tuple[bytes, bytes]] = (),
    *,
    more_body: bool = False,
) -> None:
    """Answer with `status` and one sentence; with `more_body` the answer is there, and still to be ended."""
    problem = {"type": "about:blank", "title": status.phrase, "status": status.value, "detail": detail}
    body = json.dumps(problem).encode()
    fixed = [
        (b"content-type", b"application/problem+json"),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
    ]
    await send({"type": "http.response.start", "status": status.value, "headers": [*fixed, *headers]})
    await send({"type": "http.response.body", "body": body, "more_body": more_body})
