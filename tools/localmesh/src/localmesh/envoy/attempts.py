"""How often a listener of a generated configuration sends a call on."""

from localmesh.envoy.config import Config


def attempts(config: Config, listener: str, path: str) -> int:
    """All attempts together, the first included; the most that any virtual host allows."""
    hosts = (
        host for each in config["static_resources"]["listeners"] if each["name"] == listener for host in _hosts(each)
    )
    routes = (route for host in hosts for route in host["routes"] if route["match"].get("path") == path)
    return max((1 + route["route"].get("retry_policy", {}).get("num_retries", 0) for route in routes), default=1)


def _hosts(listener: Config) -> list[Config]:
    (manager,) = listener["filter_chains"][0]["filters"]
    found: list[Config] = manager["typed_config"]["route_config"]["virtual_hosts"]
    return found
