"""Envoy's configuration follows the policy in the protos, and nothing but that."""

from dataclasses import replace

import pytest

from grpc_common.policy import PolicyError
from localmesh.certificates import Identity
from localmesh.envoy import rbac, routes, tls, tokens
from localmesh.envoy.ingress import Gate, ingress
from localmesh.envoy.sidecar import sidecar
from localmesh.intent.route import Hop, Repeat

GET = "/meshwork.items.v1.ItemService/GetItem"
LIST = "/meshwork.items.v1.ItemService/ListItems"
SYNC = "/meshwork.items.v1.ItemService/SyncItems"


@pytest.fixture
def policy(make_workloads):
    by_path = {each.path: each for each in make_workloads()[0].routes}
    return by_path.__getitem__


def _rules(described, *policies):
    return rbac.access(described, policies)["typed_config"]["rules"]["policies"]


def _principals(rule):
    return [each["authenticated"]["principal_name"]["exact"] for each in rule["principals"]]


def _route(policy, hop=Hop.INGRESS):
    (route,) = routes.methods([policy], "items", hop)
    return route["route"]


def test_a_method_is_open_to_its_callers_and_by_its_exact_path(described, policy):
    rule = _rules(described, replace(policy(GET), callers=("ingress", "health")))[GET]
    assert _principals(rule) == [described.spiffe_id("ingress"), described.spiffe_id("health")]
    assert rule["permissions"] == [{"url_path": {"path": {"exact": GET}}}]


def test_a_caller_taken_from_the_policy_is_taken_from_the_rules(described, policy):
    rule = _rules(described, replace(policy(GET), callers=("health",)))[GET]
    assert _principals(rule) == [described.spiffe_id("health")]


def test_a_method_nobody_may_call_has_no_rule(described, policy):
    assert GET not in _rules(described, replace(policy(GET), callers=()))


def test_health_and_reflection_are_for_observers(described):
    rules = _rules(described)
    assert set(rules) == {
        "/grpc.health.v1.Health/",
        "/grpc.reflection.v1.ServerReflection/",
        "/grpc.reflection.v1alpha.ServerReflection/",
    }
    assert all(_principals(rule) == [described.spiffe_id("ingress")] for rule in rules.values())
    assert _rules(replace(described, observers=())) == {}


def test_a_unary_call_has_more_time_than_its_policy(policy):
    assert _route(replace(policy(GET), seconds=2.0), Hop.INBOUND)["timeout"] == "4.000s"


@pytest.mark.parametrize("path", [LIST, SYNC])
def test_a_stream_has_no_timeout_of_the_mesh(policy, path):
    route = _route(policy(path))
    assert (route["timeout"], route["idle_timeout"]) == ("0.000s", "0.000s")


def test_the_ingress_waits_longer_than_the_sidecar(described, make_workloads, gate):
    (workload,) = make_workloads()
    outer = _hosts(ingress(described, gate, [workload]))[0]["routes"]
    inner = _hosts(sidecar(described, workload, [workload], 4317))[0]["routes"]
    waits = [
        next(float(r["route"]["timeout"][:-1]) for r in rs if r["match"].get("path") == GET) for rs in (outer, inner)
    ]
    assert waits[0] > waits[1] > next(each.seconds for each in workload.routes if each.path == GET)


MESH_RETRY = Repeat(attempts=3, codes=("UNAVAILABLE", "RESOURCE_EXHAUSTED"), initial=0.1, max=1.0)


@pytest.mark.parametrize("hop", [Hop.INGRESS, Hop.OUTBOUND])
def test_the_mesh_repeats_what_it_owns(policy, hop):
    retry = _route(replace(policy(GET), repeat=MESH_RETRY), hop)["retry_policy"]
    assert (retry["retry_on"], retry["num_retries"]) == ("unavailable,resource-exhausted", 2)
    assert retry["retry_back_off"] == {"base_interval": "0.100s", "max_interval": "1.000s"}


@pytest.mark.parametrize("hop", Hop)
def test_the_mesh_repeats_nothing_else(policy, hop):
    assert "retry_policy" not in _route(policy(GET), hop)  # its owner is the client


def test_the_receiving_sidecar_never_repeats(policy):
    assert "retry_policy" not in _route(replace(policy(GET), repeat=MESH_RETRY), Hop.INBOUND)


def test_a_code_envoy_cannot_repeat_is_refused(policy):
    with pytest.raises(PolicyError, match=f"{GET}: the mesh cannot retry on DATA_LOSS"):
        _route(replace(policy(GET), repeat=replace(MESH_RETRY, codes=("DATA_LOSS",))))


def test_a_token_is_asked_for_but_where_the_policy_is_anonymous(described, policy, tmp_path):
    anonymous = replace(policy(GET), anonymous=True)
    fields = tokens.verification(described.tokens, tmp_path / "jwks.json", [anonymous, policy(LIST)])["typed_config"]
    open_to_all = [rule["match"] for rule in fields["rules"] if "requires" not in rule]
    assert open_to_all == [{"prefix": "/grpc.health.v1.Health/"}, {"path": GET}]
    assert fields["rules"][-1] == {"match": {"prefix": "/"}, "requires": {"provider_name": "issuer"}}


def test_each_service_has_an_authority_for_its_health(described, make_workloads, gate):
    hosts = _hosts(ingress(described, gate, make_workloads()))
    assert [host["domains"] for host in hosts] == [["items.localhost"], ["*"]]


def test_replicas_share_a_cluster_and_their_service_id(described, make_workloads, gate):
    replicas = make_workloads(items=2)
    assert [each.name for each in replicas] == ["items", "items-2"]
    _, cluster = ingress(described, gate, replicas)["static_resources"]["clusters"]
    assert len(cluster["load_assignment"]["endpoints"][0]["lb_endpoints"]) == 2
    context = cluster["transport_socket"]["typed_config"]["common_tls_context"]["combined_validation_context"]
    (name,) = context["default_validation_context"]["match_typed_subject_alt_names"]
    assert name == {"san_type": "URI", "matcher": {"exact": described.spiffe_id("items")}}


@pytest.mark.parametrize("context", [tls.public_server, lambda identity: tls.mutual_client(identity, server="x")])
def test_tls_goes_up_to_1_3(tmp_path, context):
    common = context(Identity("x", tmp_path))["typed_config"]["common_tls_context"]
    assert common["tls_params"]["tls_maximum_protocol_version"] == "TLSv1_3"


@pytest.fixture
def gate(tmp_path):
    return Gate(
        port=8443,
        admin_port=9901,
        traces_port=4317,
        server=Identity("ingress-server", tmp_path / "ingress-server"),
        client=Identity("ingress", tmp_path / "ingress"),
        jwks=tmp_path / "jwks.json",
    )


def _hosts(bootstrap):
    (listener,) = bootstrap["static_resources"]["listeners"]
    (connection_manager,) = listener["filter_chains"][0]["filters"]
    return connection_manager["typed_config"]["route_config"]["virtual_hosts"]
