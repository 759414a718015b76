"""What Envoy's spans are called and what they may say."""

from typing import Final

from localmesh.envoy.config import HEALTH, REFLECTION, Config

HTTP: Final = "HTTP"
"""The span of a request that no route knows, as OpenTelemetry's conventions name one without a method and a route."""
NEVER: Final = {"numerator": 0}
TAGS: Final = [
    {"tag": "http.url", "value": "%REQ(:SCHEME)%://%REQ(:AUTHORITY)%%PATH(NQ):256%"},
    {"tag": "grpc.path", "value": "%PATH(NQ):256%"},
]
"""In place of Envoy's own, which have the query, and secrets may stand there (CWE-598)."""


def traced(route: Config) -> Config:
    """The route with the name of its spans: the RPC, or the path of a page, so that names are as few as routes.

    Health checks are not traced: they come every second, for ever, and would hide all others.
    """
    match = route["match"]
    path = str(match.get("path", match.get("prefix", "")))
    if path.startswith(HEALTH):
        return route | {"tracing": {"client_sampling": NEVER, "random_sampling": NEVER, "overall_sampling": NEVER}}
    if "path" in match:
        name = path.removeprefix("/")
    elif path in REFLECTION:
        name = f"{path.removeprefix('/')}*"
    else:
        name = f"{HTTP} {path}*" if path.strip("/") else HTTP
    return route | {"tracing": {"operation": name, "upstream_operation": name}}
