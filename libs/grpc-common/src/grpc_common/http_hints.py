"""What an answer over HTTP has beside its status, for the proxy that makes one of a call's error."""

import math
from typing import Final

from grpc import StatusCode

from grpc_common.bearable_wait import bearable_wait
from grpc_common.errors import AppException
from grpc_common.jwt_service import INSUFFICIENT
from grpc_common.scope import is_scope

CHALLENGE: Final = "www-authenticate"
WAIT: Final = "retry-after"
BEARER: Final = 'Bearer realm="meshwork"'


def http_hints(error: BaseException, status: StatusCode) -> tuple[tuple[str, str], ...]:
    """Return the trailers that are headers of an answer over HTTP: a 401 says how to prove who one is (RFC 9110
    §11.6.1, RFC 6750 §3), so does a 403 where the token allows too little (RFC 6750 §3.1), and who is held up hears for
    how long (§10.2.3), in whole seconds.

    A proxy that puts HTTP before gRPC passes them on as they are, for a call that failed has its trailers in the head.
    """
    told = error.metadata if isinstance(error, AppException) else {}
    if status is StatusCode.UNAUTHENTICATED:
        return ((CHALLENGE, _challenge(told.get("reason"))),)
    if status is StatusCode.PERMISSION_DENIED and told.get("reason") == INSUFFICIENT:
        needed = f', scope="{told["scope"]}"' if all(map(is_scope, told.get("scope", "").split(" "))) else ""
        return ((CHALLENGE, f'{BEARER}, error="{INSUFFICIENT}"{needed}'),)
    wait = bearable_wait(getattr(error, "retry_after", None))
    if isinstance(error, AppException) and wait is not None:
        return ((WAIT, str(math.ceil(max(wait, 1.0)))),)
    return ()


def _challenge(reason: str | None) -> str:
    # Who sent no token at all is told no error (RFC 6750 §3.1), nor is who has sent something else, such as a password.
    return BEARER + (', error="invalid_token"' if reason not in (None, "missing") else "")
