"""Security events: what happened to users, sessions and tokens, told to whoever must know."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from grpc_common.correlation import correlation_id


class Kind(StrEnum):
    """What happened; `meshwork.auth.v1.SecurityEventKind` says what each means."""

    BOOTSTRAPPED = "bootstrapped"
    USER_CREATED = "user_created"
    LOGGED_IN = "logged_in"
    LOGIN_FAILED = "login_failed"
    SESSION_REVOKED = "session_revoked"
    TOKEN_REVOKED = "token_revoked"  # noqa: S105  # what happened, and no token
    PASSWORD_CHANGED = "password_changed"  # noqa: S105
    ROLES_CHANGED = "roles_changed"
    USER_DISABLED = "user_disabled"
    USER_ENABLED = "user_enabled"
    CLIENT_CREATED = "client_created"
    CLIENT_DELETED = "client_deleted"
    SERVICE_TOKEN_ISSUED = "service_token_issued"  # noqa: S105
    CLIENT_REFUSED = "client_refused"
    KEY_ROTATED = "key_rotated"
    BOOTSTRAP_REFUSED = "bootstrap_refused"
    ALL_SESSIONS_ENDED = "all_sessions_ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class SecurityEvent:
    """One event, with the names of `meshwork.auth.v1.SecurityEvent`; what is not known is empty."""

    kind: Kind
    at: datetime
    subject: str = ""
    actor: str = ""
    client_id: str = ""
    session_id: str = ""
    token_id: str = ""
    reason: str = ""
    address: str = ""
    correlation_id: str = field(default_factory=correlation_id)
    roles: tuple[str, ...] = ()


class Audit(Protocol):
    """Where events are written that belong to no other change."""

    async def record(self, event: SecurityEvent) -> None:
        """Return when the event is kept; it is told to others soon.

        Raises:
            ExternalServiceError: the database cannot be reached or does not answer in time.
        """
        ...
