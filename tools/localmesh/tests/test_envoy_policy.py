"""Envoy's configuration follows the policy in the protos, and nothing but that."""

from dataclasses import replace

import pytest

from grpc_common.policy import PolicyError
from localmesh.certificates import Identity
from localmesh.envoy import rbac, routes, tls, tokens
from localmesh.envoy.ingress import Gate, ingress
from localmesh.envoy.sidecar import sidecar
from localmesh.intent.http_route import SECONDS, HttpRoute
from localmesh.intent.route import Hop, Repeat

GET = "/meshwork.items.v1.ItemService/GetItem"
LIST = "/meshwork.items.v1.ItemService/ListItems"
SYNC = "/meshwork.items.v1.ItemService/SyncItems"


@pytest.fixture
def policy(make_workloads):
    by_path = {each.path: each for each in make_workloads()[0].routes}
    return by_path.__getitem__


def _rules(described, *policies, pages=()):
    return rbac.access(described, policies, pages)["typed_config"]["rules"]["policies"]


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
    workload, _ = make_workloads()
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


def test_a_token_is_asked_for_but_where_the_policy_is_anonymous(described, policy):
    anonymous = replace(policy(GET), anonymous=True)
    pages = [HttpRoute(prefix="/oauth2/", callers=("ingress",))]
    filter_ = tokens.verification(described.tokens, tokens.keys_of("auth", "auth"), [anonymous, policy(LIST)], pages)
    fields = filter_["typed_config"]
    open_to_all = [rule["match"] for rule in fields["rules"] if "requires" not in rule]
    assert open_to_all == [{"prefix": "/grpc.health.v1.Health/"}, {"path": GET}, {"prefix": "/oauth2/"}]
    assert fields["rules"][-1] == {"match": {"prefix": "/"}, "requires": {"provider_name": "issuer"}}


def test_each_service_has_an_authority_for_its_health(described, make_workloads, gate):
    hosts = _hosts(ingress(described, gate, make_workloads()))
    assert [host["domains"] for host in hosts] == [["items.localhost"], ["auth.localhost"], ["*"]]


def test_replicas_share_a_cluster_and_their_service_id(described, make_workloads, gate):
    replicas = make_workloads(items=2)[:2]
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
    )


def _manager(bootstrap, listener=0):
    (connection_manager,) = bootstrap["static_resources"]["listeners"][listener]["filter_chains"][0]["filters"]
    return connection_manager["typed_config"]


def _hosts(bootstrap, listener=0):
    return _manager(bootstrap, listener)["route_config"]["virtual_hosts"]


def _pages(routes):
    return {
        route["match"]["prefix"]: route["route"]
        for route in routes
        if "prefix" in route["match"] and not {"grpc", "headers"} & set(route["match"])
    }


EVERYBODY = {"prefix": "spiffe://meshwork.local/"}


def test_a_page_is_open_to_whom_the_topology_names(described, make_workloads):
    rules = _rules(described, pages=make_workloads()[1].http)

    def who(prefix):
        return [each["authenticated"]["principal_name"] for each in rules[prefix]["principals"]]

    assert who("/.well-known/") == [EVERYBODY]
    assert who("/oauth2/") == [{"exact": described.spiffe_id("ingress")}]
    assert who("/internal/") == [{"exact": described.spiffe_id("items")}]
    assert rules["/oauth2/"]["permissions"] == [{"url_path": {"path": {"prefix": "/oauth2/"}}}]
    assert EVERYBODY in who("/grpc.health.v1.Health/Check")  # asked by a sidecar before it sends anything


def test_pages_go_to_the_socket_for_http(described, make_workloads):
    auth = make_workloads()[1]
    made = sidecar(described, auth, make_workloads(), 4317)
    routes = _pages(_hosts(made)[0]["routes"])
    assert {route["cluster"] for route in routes.values()} == {"service-http"}
    (cluster,) = [each for each in made["static_resources"]["clusters"] if each["name"] == "service-http"]
    (endpoint,) = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"]
    assert endpoint["endpoint"]["address"]["pipe"]["path"] == str(auth.http_socket)
    (options,) = cluster["typed_extension_protocol_options"].values()
    assert list(options["explicit_http_config"]) == ["http_protocol_options"]


@pytest.mark.parametrize(("sidecars", "cluster"), [(True, "auth"), (False, "auth-http")])
def test_the_ingress_offers_the_pages_it_may_ask_for_and_wants_no_token(
    described, make_workloads, gate, sidecars, cluster
):
    made = ingress(described, replace(gate, sidecars=sidecars), make_workloads())
    for host in _hosts(made):
        routes = _pages(host["routes"])
        assert set(routes) == {"/.well-known/", "/oauth2/", "/"}
        assert {routes[page]["cluster"] for page in ("/.well-known/", "/oauth2/")} == {cluster}
    assert cluster in {each["name"] for each in made["static_resources"]["clusters"]}
    (filter_,) = [each for each in _manager(made)["http_filters"] if "jwt_authn" in each["name"]]
    free = [rule["match"] for rule in filter_["typed_config"]["rules"] if "requires" not in rule]
    assert [each for each in free if each.get("prefix") in {"/.well-known/", "/oauth2/", "/internal/"}] == [
        {"prefix": "/.well-known/"},
        {"prefix": "/oauth2/"},
    ]
    (provider,) = filter_["typed_config"]["providers"].values()
    assert provider["remote_jwks"]["http_uri"]["cluster"] == cluster
    assert provider["remote_jwks"]["http_uri"]["uri"] == "http://auth/.well-known/jwks.json"


def test_everybody_but_the_issuer_reaches_its_pages_through_the_own_sidecar(described, make_workloads):
    items, auth = everyone = make_workloads()
    assert len(sidecar(described, auth, everyone, 4317)["static_resources"]["listeners"]) == 1
    made = sidecar(described, items, everyone, 4317)
    hosts = {host["name"]: host for host in _hosts(made, listener=1)}
    assert hosts["auth"]["domains"] == ["auth", "auth.localhost"]
    assert _pages(hosts["auth"]["routes"])["/.well-known/"]["cluster"] == "auth"
    assert _manager(made, listener=1)["codec_type"] == "AUTO"
    (cluster,) = [each for each in made["static_resources"]["clusters"] if each["name"] == "auth"]
    context = cluster["transport_socket"]["typed_config"]["common_tls_context"]["combined_validation_context"]
    (name,) = context["default_validation_context"]["match_typed_subject_alt_names"]
    assert name == {"san_type": "URI", "matcher": {"exact": described.spiffe_id("auth")}}


def test_only_the_ingress_says_where_a_call_comes_from(described, make_workloads, gate):
    everyone = make_workloads()
    front = _manager(ingress(described, gate, everyone))
    assert front["use_remote_address"] is True
    assert "xff_num_trusted_hops" not in front
    made = sidecar(described, everyone[0], everyone, 4317)
    assert "use_remote_address" not in _manager(made)  # else its own caller, the ingress, would be the client
    for host in _hosts(made, listener=1):
        assert host["request_headers_to_remove"] == ["x-envoy-external-address", "x-forwarded-for"]


def test_an_inner_proxy_waits_less_long_for_a_page_than_an_outer_one(described, make_workloads, gate):
    everyone = make_workloads()
    configs = [
        _hosts(sidecar(described, everyone[1], everyone, 4317)),
        _hosts(sidecar(described, everyone[0], everyone, 4317), listener=1),
        _hosts(ingress(described, gate, everyone)),
    ]
    waits = [float(_pages(hosts[0]["routes"])["/.well-known/"]["timeout"][:-1]) for hosts in configs]
    assert SECONDS < waits[0] < waits[1] < waits[2]
