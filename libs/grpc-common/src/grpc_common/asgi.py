"""The shape of an HTTP application (ASGI 3), so that naming it needs no web framework."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

type Scope = MutableMapping[str, Any]
type Message = MutableMapping[str, Any]
type Receive = Callable[[], Awaitable[Message]]
type Send = Callable[[Message], Awaitable[None]]

type ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]
"""Any application of FastAPI or Starlette is one."""

type Headers = list[tuple[bytes, bytes]]
"""Names in lower case, each followed by its value."""
