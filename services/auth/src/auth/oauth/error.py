"""How OAuth's endpoints say no (RFC 6749 §5.2)."""

import math
import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final, Literal

from fastapi import Response
from fastapi.responses import JSONResponse

from auth.introspection import OtherClientsTokenError
from auth.scopes import ScopeRefusedError
from auth.service_tokens import ClientRefusedError
from grpc_common.errors import (
    AbortedError,
    AppException,
    ExternalServiceError,
    RateLimitError,
    UnauthorizedError,
    ValidationError,
)

type ErrorCode = Literal[
    "invalid_request",
    "invalid_client",
    "invalid_grant",
    "unauthorized_client",
    "unsupported_grant_type",
    "invalid_scope",
    "access_denied",
    "temporarily_unavailable",
    "server_error",
]

NOT_STORED: Final = {"cache-control": "no-store", "pragma": "no-cache"}
"""What every answer has that tells of tokens (RFC 6749 §5.1)."""
CHALLENGE: Final = {"www-authenticate": 'Basic realm="auth", charset="UTF-8"'}
RETRY_AFTER: Final = 2.0
"""Seconds after which what is out of reach is worth another try."""

_NOT_IN_A_DESCRIPTION: Final = re.compile(r"[^\x20\x21\x23-\x5b\x5d-\x7e]")  # RFC 6749 §5.2


class OAuthError(Exception):
    """A request that is refused; `description` is for the developer of the client and quotes nothing secret."""

    def __init__(
        self,
        error: ErrorCode,
        description: str,
        status: HTTPStatus = HTTPStatus.BAD_REQUEST,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(f"{error}: {description}")
        self.error: Final = error
        self.description: Final = _NOT_IN_A_DESCRIPTION.sub("'", description)
        self.status: Final = status
        self.headers: Final = {**NOT_STORED, **(headers or {})}

    def response(self) -> Response:
        """Return the error as OAuth has it."""
        told = {"error": self.error, "error_description": self.description}
        return JSONResponse(told, self.status, self.headers)


def invalid_client(description: str) -> OAuthError:
    """Return the error of a client that did not prove itself, with the way it can (RFC 9110 §11.6.1)."""
    return OAuthError("invalid_client", description, HTTPStatus.UNAUTHORIZED, CHALLENGE)


def to_oauth(error: AppException | TimeoutError) -> OAuthError | None:
    """Return what OAuth calls `error`; None when it is no fault that a caller can do anything about."""
    match error:
        case ClientRefusedError():
            return invalid_client(error.message)
        case ScopeRefusedError():
            return OAuthError("invalid_scope", error.message)
        case UnauthorizedError() | OtherClientsTokenError():  # "or was issued to another client" (§5.2)
            return OAuthError("invalid_grant", error.message)
        case ValidationError():
            return OAuthError("invalid_request", error.message)
        case RateLimitError(message=message, retry_after=seconds):
            return OAuthError("temporarily_unavailable", message, HTTPStatus.TOO_MANY_REQUESTS, _retry_after(seconds))
        case AbortedError(message=message) | ExternalServiceError(message=message):
            return _unavailable(message)
        case TimeoutError():
            return _unavailable("the answer took too long")
        case _:
            return None


def _unavailable(message: str) -> OAuthError:
    headers = _retry_after(RETRY_AFTER)
    return OAuthError("temporarily_unavailable", message, HTTPStatus.SERVICE_UNAVAILABLE, headers)


def _retry_after(seconds: float) -> dict[str, str]:
    return {"retry-after": str(max(1, math.ceil(seconds)))}
