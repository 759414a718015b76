"""Every route of every Envoy has a name for its spans, and health has none."""

import pytest

from localmesh.envoy.rendering import render
from localmesh.envoy.spans import traced


def _managers(config):
    for listener in config["static_resources"]["listeners"]:
        for chain in listener["filter_chains"]:
            for each in chain["filters"]:
                if "route_config" in each["typed_config"]:
                    yield each["typed_config"]


def test_every_route_has_a_name_of_its_own_or_is_health(described):
    seen = set()
    for name, config in render(described).items():
        for manager in _managers(config):
            assert manager["tracing"]["spawn_upstream_span"], name
            for host in manager["route_config"]["virtual_hosts"]:
                for route in host["routes"]:
                    how = route["tracing"]
                    if "grpc.health" in str(route["match"]):
                        assert {key: how[key]["numerator"] for key in how} == {
                            "client_sampling": 0,
                            "random_sampling": 0,
                            "overall_sampling": 0,
                        }
                    else:
                        assert how["operation"] == how["upstream_operation"] != ""
                        assert "%" not in how["operation"]  # nothing of a caller's
                        seen.add(how["operation"])
    assert {"HTTP", "HTTP /oauth2/*", "HTTP /internal/*", "meshwork.items.v1.ItemService/GetItem"} <= seen
    assert "grpc.reflection.v1.ServerReflection/*" in seen


@pytest.mark.parametrize(
    ("match", "name"),
    [
        ({"path": "/shop.Stock/Get", "grpc": {}}, "shop.Stock/Get"),
        ({"prefix": "/oauth2/"}, "HTTP /oauth2/*"),
        ({"prefix": "/"}, "HTTP"),
        ({}, "HTTP"),
    ],
)
def test_what_a_route_is_called(match, name):
    assert traced({"match": match})["tracing"] == {"operation": name, "upstream_operation": name}
