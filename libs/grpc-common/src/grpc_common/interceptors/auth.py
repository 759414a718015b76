"""Who may call what."""

import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final

import structlog

from grpc_common.call import UNKNOWN, Call, Method, Run
from grpc_common.chain import Interceptor
from grpc_common.jwt_service import JWTService, insufficient, refusal, token_expired, token_revoked
from grpc_common.lease import Lease
from grpc_common.policy import Access
from grpc_common.principal import Principal
from grpc_common.revocations import Revocations

type Allow = Callable[[Principal], None]

HEALTH: Final = "grpc.health.v1.Health"


class AuthInterceptor(Interceptor):
    """A call runs only for a caller whose token its method's policy accepts, a stream only while the token counts.

    A method without a policy needs a token, without any roles or scopes. `excluded_methods` are those without a policy
    that need none: "/package.Service/Method", or "/package.Service/" for a whole service; health checks always are.
    `clock` gives Unix seconds; `revocations`, shared with the JWTService, ends open streams whose token is revoked.
    """

    def __init__(
        self,
        jwt_service: JWTService,
        excluded_methods: set[str] | None = None,
        *,
        revocations: Revocations | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._jwt_service = jwt_service
        self._excluded = frozenset(excluded_methods or ())
        for path in self._excluded:
            if not path.startswith("/") or path.count("/") != 2:
                raise ValueError(f"excluded method {path!r} is not like /package.Service/Method or /package.Service/")
        self._revocations = revocations
        self._clock = clock
        self._log = structlog.get_logger(component="auth")

    def wrap(self, method: Method, call_next: Run) -> Run:
        """Ask for a token where the method needs one; elsewhere do nothing at all."""
        access = self._access(method)
        if access.anonymous:
            return call_next
        allow, cached, verify = _allow(method, access), self._jwt_service.cached, self._jwt_service.verify
        if method.request_streaming or method.response_streaming:
            return self._stream(allow, call_next)

        # A coroutine less than it could be; and the token must be in no local variable while the handler runs:
        # tracebacks may be logged with them.
        def run(call: Call, request: Any) -> Awaitable[Any]:
            principal = cached(_bearer(call))
            if principal is None:
                return first(call, request)
            if allow is not None:
                allow(principal)
            call.principal = principal
            return call_next(call, request)

        async def first(call: Call, request: Any) -> Any:
            principal = await verify(_bearer(call))
            if allow is not None:
                allow(principal)
            call.principal = principal
            return await call_next(call, request)

        return run

    def _stream(self, allow: Allow | None, call_next: Run) -> Run:
        cached, verify = self._jwt_service.cached, self._jwt_service.verify

        async def run(call: Call, request: Any) -> Any:
            principal = cached(_bearer(call)) or await verify(_bearer(call))
            if allow is not None:
                allow(principal)
            call.principal = principal
            with (
                Lease(principal.expires_at - self._clock(), token_expired, call) as lease,
                self._watching(principal, lease),
            ):
                return await call_next(call, request)

        return run

    def _access(self, method: Method) -> Access:
        excluded = bool(self._excluded & {method.path, f"/{method.service}/"})
        if method.policy is not None:
            if excluded and not method.policy.access.anonymous:
                self._log.warning("excluded method has a policy, which counts", method=method.path)
            return method.policy.access
        # Who calls a method that is not there gets UNIMPLEMENTED, which tools look for to try an older version.
        anonymous = excluded or method.service == HEALTH or method.path == UNKNOWN
        return Access(anonymous=anonymous, roles=(), scopes=())

    def _watching(self, principal: Principal, lease: Lease) -> AbstractContextManager[None]:
        if self._revocations is None:
            return nullcontext()
        return self._revocations.watching(principal, lambda: lease.end(token_revoked()))


def _bearer(call: Call) -> str:
    """Return the token of RFC 6750 §2.1, of which there must be exactly one."""
    headers = call.headers
    given = headers.get("authorization")
    if len(headers) != len(call.metadata) and call.repeats("authorization"):
        raise refusal("malformed", "there is more than one authorization in the metadata")
    if not isinstance(given, str):
        raise refusal("missing", "this method needs a token: send the metadata `authorization: Bearer <token>`")
    scheme, _, token = given.partition(" ")
    if scheme.lower() != "bearer" or not (token := token.strip(" ")):
        raise refusal("malformed", "the metadata authorization is not `Bearer <token>`")
    return token


def _allow(method: Method, access: Access) -> Allow | None:
    if not access.roles and not access.scopes:
        return None
    roles, scopes = frozenset(access.roles), frozenset(access.scopes)
    needs_role = f"{method.path} needs one of the roles {', '.join(access.roles)}"
    needs_scope = f"{method.path} needs the scope {' '.join(access.scopes)}"

    def allow(principal: Principal) -> None:
        if roles and roles.isdisjoint(principal.roles):
            raise insufficient(needs_role)
        if not scopes <= principal.scopes:
            raise insufficient(needs_scope, access.scopes)

    return allow
