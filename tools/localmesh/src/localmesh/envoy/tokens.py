"""Access tokens at the ingress: signed by the issuer for our audience, or the call goes no further."""

from collections.abc import Iterable

from localmesh.envoy.config import HEALTH, Config, extension, seconds
from localmesh.intent.http_route import HttpRoute
from localmesh.intent.route import Route
from localmesh.topology import JWKS_PATH, Tokens

PROVIDER = "issuer"
CLOCK_SKEW = 60
KEYS_LAST, KEYS_WITHIN, ASK_AGAIN_AFTER = 15.0, 2.0, 0.5
"""Seconds: Envoy asks for the keys again before the time they last is over, and goes on with them if it gets none."""


def keys_of(issuer: str, cluster: str) -> Config:
    """The keys the issuer serves, fetched before the first call is taken and again and again after that."""
    uri = {"uri": f"http://{issuer}{JWKS_PATH}", "cluster": cluster, "timeout": seconds(KEYS_WITHIN)}
    fetching = {"failed_refetch_duration": seconds(ASK_AGAIN_AFTER)}
    return {"remote_jwks": {"http_uri": uri, "cache_duration": seconds(KEYS_LAST), "async_fetch": fetching}}


def verification(tokens: Tokens, keys: Config, routes: Iterable[Route], pages: Iterable[HttpRoute]) -> Config:
    """The filter that wants a valid token for all but health, HTTP, and the methods that are open to everybody.

    The token goes on to the service, which looks at it again for roles and scopes.
    """
    provider = {
        "issuer": tokens.issuer,
        "audiences": [tokens.audience],
        **keys,
        # and nowhere else: a token in a URL stands in logs and histories
        "from_headers": [{"name": "authorization", "value_prefix": "Bearer "}],
        "forward": True,
        "require_expiration": True,
        "clock_skew_seconds": CLOCK_SKEW,
        "payload_in_metadata": "token",
    }
    anonymous = [{"match": {"path": route.path}} for route in routes if route.anonymous]
    rules = [
        {"match": {"prefix": HEALTH}},
        *anonymous,
        *({"match": {"prefix": page.prefix}} for page in pages),
        {"match": {"prefix": "/"}, "requires": {"provider_name": PROVIDER}},
    ]
    message = "filters.http.jwt_authn.v3.JwtAuthentication"
    return extension("envoy.filters.http.jwt_authn", message, providers={PROVIDER: provider}, rules=rules)
