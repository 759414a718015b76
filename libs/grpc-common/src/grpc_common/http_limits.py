"""What one request over HTTP may take."""

import asyncio
from contextlib import suppress
from http import HTTPStatus
from typing import Final

from grpc_common.asgi import ASGIApp, Headers, Message, Receive, Scope, Send
from grpc_common.http_problem import send_problem

LINGER: Final = 1.0
"""Seconds that a refused body is still read: a client that is cut off while it sends never sees the answer."""
CLOSE: Final = (b"connection", b"close")


class HTTPLimits:
    """Lets an application see only whole requests of a bearable size, and only so many at a time.

    A request takes its place once it has arrived: slow clients do not keep others out. Sizes are bytes, times seconds.
    """

    def __init__(self, app: ASGIApp, *, max_head: int, max_body: int, timeout: float, max_concurrent: int) -> None:
        self._app = app
        self._max_head = max_head
        self._max_body = max_body
        self._timeout = timeout
        self._max_concurrent = max_concurrent
        self._under_way = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["method"] == "CONNECT":  # a 200 to it would make a tunnel of the connection
            await send_problem(send, HTTPStatus.METHOD_NOT_ALLOWED, "this is no proxy", [CLOSE])
            return
        if _head_size(scope) > self._max_head:
            await send_problem(
                send,
                HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
                f"the first line and the headers may have {self._max_head} bytes together",
                [CLOSE],
            )
            return
        try:
            body = await self._body(scope["headers"], receive)
        except _TooLarge:
            await self._refuse_body(receive, send)
            return
        except TimeoutError:
            late = f"the body did not arrive within {self._timeout:g} seconds"
            await send_problem(send, HTTPStatus.REQUEST_TIMEOUT, late, [CLOSE])
            return
        if body is None:
            return  # the client has gone
        await self._take_place(scope, _replayed(body, receive), send)

    async def _body(self, headers: Headers, receive: Receive) -> bytes | None:
        announced = next((value for name, value in headers if name == b"content-length"), b"0")
        if int(announced) > self._max_body:  # digits only: h11 has seen to that
            raise _TooLarge
        body = bytearray()
        async with asyncio.timeout(self._timeout):
            more = True
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return None
                body += message.get("body", b"")
                if len(body) > self._max_body:
                    raise _TooLarge
                more = message.get("more_body", False)
        return bytes(body)

    async def _refuse_body(self, receive: Receive, send: Send) -> None:
        sentence = f"the body may have {self._max_body} bytes"
        await send_problem(send, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, sentence, [CLOSE], more_body=True)
        with suppress(TimeoutError):
            async with asyncio.timeout(LINGER):
                while (await receive()).get("more_body", False):
                    pass
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _take_place(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._under_way >= self._max_concurrent:
            sentence = "too many requests are worked on: try again in a moment"
            await send_problem(send, HTTPStatus.SERVICE_UNAVAILABLE, sentence, [(b"retry-after", b"1")])
            return
        self._under_way += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._under_way -= 1


class _TooLarge(Exception):  # noqa: N818  # never leaves this file
    pass


def _head_size(scope: Scope) -> int:
    # h11's own limit does not see a head that comes in one piece.
    first = len(scope["method"]) + len(scope["raw_path"]) + len(scope["query_string"])
    return first + sum(len(name) + len(value) + 4 for name, value in scope["headers"])


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Return what gives the whole body first, and then tells when the client goes."""
    whole: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> Message:
        return whole.pop() if whole else await receive()

    return replayed
