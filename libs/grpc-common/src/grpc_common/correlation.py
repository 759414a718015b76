"""The correlation id: one name for all that happens on behalf of one request, across services."""

import re
from collections.abc import Mapping
from contextvars import ContextVar
from random import getrandbits
from typing import Final

from grpc_common.call import Call, current_call

KEY: Final = "x-correlation-id"
KEYS: Final = (KEY, "x-request-id")

# What a caller may choose: short, and nothing that could forge a log line or a header.
_SANE: Final = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")

request_correlation: ContextVar[str] = ContextVar("request_correlation", default="")
"""The correlation id of the HTTP request this task works for."""


def correlate(call: Call) -> str:
    """Give `call` its correlation id, the caller's if that is sane, and send it back in the trailing metadata."""
    if not call.correlation_id:
        call.correlation_id = chosen(call.headers)
        send_back(call)
    return call.correlation_id


def send_back(call: Call) -> None:
    """Put the correlation id among the trailers, again if the handler has set others meanwhile."""
    trailers = call.core.trailing_metadata() or ()
    if trailers and trailers is call.sent_back:
        return  # nobody has touched them
    ours = (KEY, call.correlation_id)
    if ours not in trailers:
        call.sent_back = (*(pair for pair in trailers if pair[0] != KEY), ours)
        call.core.set_trailing_metadata(call.sent_back)


def correlation_id() -> str:
    """Return the correlation id of the call or HTTP request this task works for, or "" outside of one."""
    call = current_call.get()
    return call.correlation_id if call is not None else request_correlation.get()


def chosen(headers: Mapping[str, str | bytes]) -> str:
    """Return the correlation id in `headers` (names in lower case), or a new one where there is no sane one."""
    for key in KEYS:
        value = headers.get(key)
        if isinstance(value, str) and _SANE.fullmatch(value):
            return value
    return f"{getrandbits(128):032x}"
