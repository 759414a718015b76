"""What the authorization server says of itself (RFC 8414)."""

import re
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from fastapi import Request, Response
from fastapi.responses import JSONResponse

from auth.oauth.client import METHODS
from grpc_common.settings import SettingsError

TOKEN: Final = "/oauth2/token"  # noqa: S105
REVOKE: Final = "/oauth2/revoke"
INTROSPECT: Final = "/oauth2/introspect"
JWKS: Final = "/.well-known/jwks.json"
OAUTH: Final = "/.well-known/oauth-authorization-server"
KEPT: Final = {"cache-control": "public, max-age=3600"}


class MetadataEndpoint:
    """Says where the endpoints are, which is below the issuer, and what they do; nothing that is not served.

    It is no OpenID provider: it issues no ID tokens and has no endpoint for the user's browser. So no document of
    it would be valid as one of OpenID Connect Discovery, and there is none.

    Raises:
        SettingsError: `issuer` is no URL that endpoints can be below (RFC 8414 §2).
    """

    def __init__(self, issuer: str, *, grants: Sequence[str], scopes: Sequence[str] = ()) -> None:
        parts = urlsplit(issuer)
        plain = parts.hostname and parts.username is None and not re.search(r"[?#\s]", issuer)
        if parts.scheme not in ("https", "http") or not plain:
            raise SettingsError([f"the issuer {issuer} must be a URL such as https://auth.example, without a query."])
        at = issuer.rstrip("/")
        self._path = parts.path.rstrip("/")
        self._document: dict[str, Any] = {
            "issuer": issuer,
            "jwks_uri": f"{at}{JWKS}",
            "token_endpoint": f"{at}{TOKEN}",
            "token_endpoint_auth_methods_supported": [*METHODS, "none"],
            "grant_types_supported": list(grants),
            "revocation_endpoint": f"{at}{REVOKE}",
            "revocation_endpoint_auth_methods_supported": [*METHODS, "none"],
            "introspection_endpoint": f"{at}{INTROSPECT}",
            "introspection_endpoint_auth_methods_supported": list(METHODS),
            # There is no authorization endpoint, but this must not be left out, and no list may be empty (§2, §3.2).
            "response_types_supported": ["none"],
            **({"scopes_supported": sorted(scopes)} if scopes else {}),
        }

    @property
    def path(self) -> str:
        """Where it is served, with the issuer's own path at the end (§3.1): only there is it the issuer's (§3.3)."""
        return f"{OAUTH}{self._path}"

    async def __call__(self, _: Request) -> Response:
        """Answer with the document."""
        return JSONResponse(self._document, headers=KEPT)
