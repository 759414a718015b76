"""What the authorization server says of itself (RFC 8414, OpenID Connect Discovery 1.0)."""

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
OPENID: Final = "/.well-known/openid-configuration"
OAUTH: Final = "/.well-known/oauth-authorization-server"
KEPT: Final = {"cache-control": "public, max-age=3600"}


class MetadataEndpoint:
    """Says where the endpoints are, which is below the issuer, and what they do; nothing that is not served.

    Raises:
        SettingsError: `issuer` is no URL that endpoints can be below (RFC 8414 §2).
    """

    def __init__(self, issuer: str, *, grants: Sequence[str], algorithm: str, scopes: Sequence[str] = ()) -> None:
        parts = urlsplit(issuer)
        if parts.scheme not in ("https", "http") or not parts.hostname or parts.query or parts.fragment:
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
            # There is no authorization endpoint, but these must not be left out, and no list may be empty (§2, §3.2).
            "response_types_supported": ["none"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": [algorithm],
            **({"scopes_supported": sorted(scopes)} if scopes else {}),
        }

    @property
    def paths(self) -> list[str]:
        """Where it is served: for an issuer with a path, RFC 8414 §3.1 has that at the end."""
        return [OPENID, OAUTH, *([f"{OAUTH}{self._path}"] if self._path else [])]

    async def __call__(self, _: Request) -> Response:
        """Answer with the document."""
        return JSONResponse(self._document, headers=KEPT)
