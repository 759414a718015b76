"""Access tokens at the ingress: signed by the issuer for our audience, or the call goes no further."""

from collections.abc import Iterable
from pathlib import Path

from localmesh.envoy.config import HEALTH, Config, extension
from localmesh.intent.route import Route
from localmesh.topology import Tokens

PROVIDER = "issuer"
CLOCK_SKEW = 5


def verification(tokens: Tokens, jwks: Path, routes: Iterable[Route]) -> Config:
    """The filter that wants a valid token for all but health and the methods that are open to everybody.

    The token goes on to the service, which looks at it again for roles and scopes.
    """
    provider = {
        "issuer": tokens.issuer,
        "audiences": [tokens.audience],
        "local_jwks": {"filename": str(jwks)},
        "forward": True,
        "require_expiration": True,
        "clock_skew_seconds": CLOCK_SKEW,
        "payload_in_metadata": "token",
    }
    anonymous = [{"match": {"path": route.path}} for route in routes if route.anonymous]
    rules = [
        {"match": {"prefix": HEALTH}},
        *anonymous,
        {"match": {"prefix": "/"}, "requires": {"provider_name": PROVIDER}},
    ]
    message = "filters.http.jwt_authn.v3.JwtAuthentication"
    return extension("envoy.filters.http.jwt_authn", message, providers={PROVIDER: provider}, rules=rules)
