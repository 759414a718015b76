"""No call reaches a server more often than its policy means it to."""

from dataclasses import replace

import pytest

from grpc_common.policy import Retry
from localmesh.commands.attempts import attempts
from localmesh.envoy.attempts import attempts as attempts_of
from localmesh.envoy.rendering import render, ways
from localmesh.failure import MeshError
from localmesh.intent.amplification import Layer, amplifications, faults
from localmesh.workload import policies_of

GET = "/meshwork.items.v1.ItemService/GetItem"


@pytest.fixture
def policy(described):
    return next(each for each in policies_of(described.services["items"]) if each.path == GET)


def _layer(name, number):
    return Layer(name, lambda path: number)


def test_the_topology_keeps_to_its_budget(described, capsys):
    assert attempts(described) == 0
    assert GET in capsys.readouterr().out


def test_the_budget_is_held(described):
    with pytest.raises(MeshError, match=r"GetItem is tried 4 times \(client 4 .*; the budget is 3"):
        attempts(replace(described, attempts_budget=3))


def test_retries_of_two_owners_multiply_and_are_found(policy):
    (found,) = amplifications([policy], {"from outside": [_layer("ingress", 3), _layer("sidecar", 1)]})
    assert (found.attempts, found.meant) == (12, 4)
    (fault,) = faults([found], budget=100)
    assert "client 4 * ingress 3 * sidecar 1" in fault
    assert "its policy says 4" in fault


def test_the_worst_way_counts(policy):
    near, far = [_layer("sidecar", 1)], [_layer("sidecar", 2)]
    (found,) = amplifications([policy], {"from near": near, "from far": far})
    assert (found.way, found.attempts) == ("from far", 8)


def test_what_the_mesh_owns_the_client_does_not_repeat(policy):
    owned = replace(policy, retry=Retry(owner="mesh", max_attempts=3, codes=("UNAVAILABLE",), initial=0.1, max=1.0))
    (found,) = amplifications([owned], {"from outside": [_layer("ingress", 3)]})
    assert (found.attempts, list(faults([found], budget=3))) == (3, [])


def test_the_numbers_are_those_of_the_generated_configuration(described):
    rendered = render(described)
    manager = rendered["ingress"]["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]
    hosts = manager["typed_config"]["route_config"]["virtual_hosts"]
    (route,) = [each for each in hosts[-1]["routes"] if each["match"].get("path") == GET]
    assert attempts_of(rendered["ingress"], "ingress", GET) == 1
    route["route"]["retry_policy"] = {"retry_on": "unavailable", "num_retries": 2}
    assert attempts_of(rendered["ingress"], "ingress", GET) == 3
    (ingress, sidecar) = ways(described, "items", rendered)["from outside"]
    assert (ingress.attempts(GET), sidecar.attempts(GET)) == (3, 1)
