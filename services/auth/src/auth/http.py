"""The service over HTTP: OAuth's endpoints, and the keys that everybody verifies tokens with."""

import asyncio
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Final

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

from auth.key_ring import KeyRing
from auth.oauth.error import OAuthError, to_oauth
from auth.oauth.introspection import IntrospectionEndpoint
from auth.oauth.jwks import JWKSEndpoint
from auth.oauth.metadata import INTROSPECT, JWKS, REVOKE, TOKEN, MetadataEndpoint
from auth.oauth.origin import origin
from auth.oauth.revocation import RevocationEndpoint
from auth.oauth.token import TokenEndpoint
from auth.settings import AuthServiceSettings
from auth.use_cases import UseCases
from grpc_common.errors import AppException

LONGEST: Final = 10.0
"""Seconds that an answer may take."""

type Endpoint = Callable[[Request], Awaitable[Response]]


def http_app(does: UseCases, ring: KeyRing, settings: AuthServiceSettings) -> FastAPI:
    """Return the application; raise SettingsError when the issuer is no URL that endpoints can be below."""
    sessions, clients, tokens = does.sessions, does.service_tokens, does.tokens
    whence = origin(behind_mesh=settings.http.plaintext is not None)
    token = TokenEndpoint(sessions, clients, whence, password_grant=settings.password_grant)
    metadata = MetadataEndpoint(settings.issuer, grants=token.grants, scopes=sorted(settings.user_scopes))
    # What there is stands in RFCs and in the metadata. A redirect would go wherever the Host header says.
    app = FastAPI(openapi_url=None, redirect_slashes=False)
    app.add_exception_handler(OAuthError, _refused)
    app.add_exception_handler(AppException, _failed)
    app.add_exception_handler(TimeoutError, _failed)
    app.add_exception_handler(HTTPException, _unserved)
    app.add_exception_handler(Exception, _broken)
    posts: dict[str, Endpoint] = {
        TOKEN: token,
        REVOKE: RevocationEndpoint(tokens, clients, whence),
        INTROSPECT: IntrospectionEndpoint(
            tokens, clients, whence, issuer=settings.issuer, audience=settings.auth.audience
        ),
    }
    jwks = JWKSEndpoint(ring, ahead=settings.key_ahead, read=settings.key_read)
    gets: dict[str, Endpoint] = {JWKS: jwks, metadata.path: metadata}
    for path, endpoint in posts.items():
        app.add_api_route(path, _in_time(endpoint), methods=["POST"])
    for path, endpoint in gets.items():
        app.add_api_route(path, _in_time(endpoint), methods=["GET", "HEAD"])
    return app


def _in_time(endpoint: Endpoint) -> Endpoint:
    async def in_time(request: Request) -> Response:
        async with asyncio.timeout(LONGEST):
            return await endpoint(request)

    return in_time


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, OAuthError)  # noqa: S101  # it is registered for nothing else
    return error.response()


async def _failed(_: Request, error: Exception) -> Response:
    assert isinstance(error, AppException | TimeoutError)  # noqa: S101  # it is registered for nothing else
    known = to_oauth(error)
    if known is None:
        raise error
    return known.response()


async def _unserved(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101  # it is registered for nothing else
    told = "there is nothing at this path"
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        told = "this path takes another method, which the header Allow names"
    return OAuthError("invalid_request", told, HTTPStatus(error.status_code), error.headers).response()


async def _broken(_: Request, __: Exception) -> Response:
    # The server logs the error itself, under the correlation id that the answer has.
    return OAuthError("server_error", "internal error", HTTPStatus.INTERNAL_SERVER_ERROR).response()
