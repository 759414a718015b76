"""The ingress's own limit: a token bucket for all calls together."""

from localmesh.envoy.config import Config, extension, seconds

NAME = "envoy.filters.http.local_ratelimit"
REFILL = 0.1
BURST_SECONDS = 2


def rate_limit(calls_per_second: float) -> Config:
    """The filter; a refused call gets RESOURCE_EXHAUSTED, or 429 by REST."""
    everything = {"default_value": {"numerator": 100, "denominator": "HUNDRED"}}
    bucket = {
        "max_tokens": max(1, round(calls_per_second * BURST_SECONDS)),
        "tokens_per_fill": max(1, round(calls_per_second * REFILL)),
        "fill_interval": seconds(REFILL),
    }
    return extension(
        NAME,
        "filters.http.local_ratelimit.v3.LocalRateLimit",
        stat_prefix="ingress",
        token_bucket=bucket,
        filter_enabled=everything,
        filter_enforced=everything,
        rate_limited_as_resource_exhausted=True,
    )


def unlimited() -> Config:
    """What a route says that is not counted."""
    return {NAME: {"@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig", "disabled": True}}
