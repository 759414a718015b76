"""What an answer over HTTP has beside its status, for the proxy that makes one of a call's error."""

import math
from typing import Final

from grpc import StatusCode

from grpc_common.bearable_wait import bearable_wait
from grpc_common.errors import AppException

CHALLENGE: Final = "www-authenticate"
WAIT: Final = "retry-after"


def http_hints(error: BaseException, status: StatusCode) -> tuple[tuple[str, str], ...]:
    """Return the trailers that are headers of an answer over HTTP: a 401 says how to prove who one is (RFC 9110
    §11.6.1, RFC 6750 §3), and who is held up hears for how long (§10.2.3), in whole seconds.

    A proxy that puts HTTP before gRPC passes them on as they are, for a call that failed has its trailers in the head.
    """
    if status is StatusCode.UNAUTHENTICATED:
        return ((CHALLENGE, _challenge(error)),)
    wait = bearable_wait(getattr(error, "retry_after", None))
    if isinstance(error, AppException) and wait is not None:
        return ((WAIT, str(math.ceil(max(wait, 1.0)))),)
    return ()


def _challenge(error: BaseException) -> str:
    # Who sent no token at all is told no error (RFC 6750 §3.1), nor is who has sent something else, such as a password.
    reason = error.metadata.get("reason") if isinstance(error, AppException) else None
    return 'Bearer realm="meshwork"' + (', error="invalid_token"' if reason not in (None, "missing") else "")
