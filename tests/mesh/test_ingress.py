"""What the ingress offers to those with a token: gRPC, REST, health, reflection."""

import ssl
import uuid

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from meshwork.items.v1 import items_service_pb2 as pb


@pytest.fixture
def rest(mesh):
    context = ssl.create_default_context(cafile=mesh.state / "ca.pem")
    headers = {"authorization": f"Bearer {mesh.token()}"}
    with httpx.Client(base_url=f"https://localhost:{mesh.port}", verify=context, headers=headers) as client:
        yield client


@pytest.fixture
def channel(mesh):
    credentials = grpc.ssl_channel_credentials(mesh.root_certificate())
    options = [("grpc.default_authority", "items.localhost"), ("grpc.ssl_target_name_override", "items.localhost")]
    with grpc.secure_channel(f"localhost:{mesh.port}", credentials, options=options) as channel:
        yield channel


def _new(**fields):
    return {"name": "Kettle", "sku": f"KIT-{uuid.uuid4()}", "quantity": 3, "price": 29.5} | fields


def test_an_item_lives_its_life_by_rest(rest):
    made = rest.post("/v1/items", json=_new())
    assert made.status_code == 200
    item = made.json()
    assert rest.get(f"/v1/items/{item['id']}").json() == item
    changed = rest.patch(f"/v1/items/{item['id']}", json={"quantity": 0}).json()
    assert (changed["quantity"], changed["price"], changed["name"]) == (0, 29.5, "Kettle")
    assert rest.delete(f"/v1/items/{item['id']}").status_code == 200
    assert rest.get(f"/v1/items/{item['id']}").status_code == 404


def test_rest_and_grpc_see_the_same_item(rest, mesh):
    item = rest.post("/v1/items", json=_new()).json()
    with mesh.items() as items:
        found = items.GetItem(pb.GetItemRequest(id=item["id"]), timeout=10)
    assert (found.sku, found.price, found.quantity) == (item["sku"], item["price"], item["quantity"])


def test_a_sku_that_is_taken_is_409(rest):
    new = _new()
    assert rest.post("/v1/items", json=new).status_code == 200
    refused = rest.post("/v1/items", json=new)
    assert refused.status_code == 409
    assert refused.json()["details"][0]["reason"] == "ALREADY_EXISTS"


def test_every_bad_field_is_named_in_a_400(rest):
    refused = rest.post("/v1/items", json=_new(name="", sku="with space", price=-1))
    assert refused.status_code == 400
    (bad,) = [each for each in refused.json()["details"] if each["@type"].endswith("BadRequest")]
    assert {violation["field"] for violation in bad["field_violations"]} == {"name", "sku", "price"}


@pytest.mark.parametrize(("path", "body"), [("/v1/items", b"{"), ("/v1/items", b'{"price": "dear"}')])
def test_json_that_is_none_is_a_400_in_json(rest, path, body):
    refused = rest.post(path, content=body)
    assert refused.status_code == 400
    assert refused.json()["code"] == grpc.StatusCode.INVALID_ARGUMENT.value[0]


def test_an_unknown_query_parameter_is_a_400(rest):
    assert rest.get("/v1/items/nobody?verbose=1").status_code == 400


def test_an_unknown_path_is_a_404_in_json(rest):
    refused = rest.get("/v2/nothing")
    assert (refused.status_code, refused.json()["code"]) == (404, grpc.StatusCode.NOT_FOUND.value[0])


def test_another_item_than_the_path_names_stays_as_it_is(rest):
    ours, other = (rest.post("/v1/items", json=_new()).json() for _ in range(2))
    path = f"/v1/items/{ours['id']}"
    assert rest.patch(path, json={"id": other["id"], "quantity": 9}).status_code == 400
    assert rest.delete(path, params={"id": other["id"]}).status_code == 400
    for item in (ours, other):
        assert rest.get(f"/v1/items/{item['id']}").json() == item


def test_a_field_that_is_none_is_named(rest):
    item = rest.post("/v1/items", json=_new()).json()
    refused = rest.patch(f"/v1/items/{item['id']}", json={"quantiy": 9})
    assert refused.status_code == 400
    assert "quantiy" in refused.json()["message"]


def test_if_match_guards_a_change(rest):
    item = rest.post("/v1/items", json=_new()).json()
    path, first = f"/v1/items/{item['id']}", {"if-match": item["etag"]}
    assert rest.patch(path, json={"quantity": 9}, headers=first).status_code == 200
    for refused in (rest.patch(path, json={"quantity": 8}, headers=first), rest.delete(path, headers=first)):
        assert (refused.status_code, refused.json()["code"]) == (412, grpc.StatusCode.ABORTED.value[0])
    assert rest.get(path).json()["quantity"] == 9
    assert rest.delete(path, headers={"if-match": rest.get(path).json()["etag"]}).status_code == 200


def test_every_answer_can_be_found_again(rest):
    for answer in (rest.get("/v1/items"), rest.get("/v1/items/nobody"), rest.get("/v2/nothing")):
        assert answer.headers.get_list("x-correlation-id") == [answer.headers["x-request-id"]]
    details = rest.get("/v1/items/nobody", headers={"x-correlation-id": "mine"}).json()["details"]
    assert details[0]["metadata"]["correlation_id"] == "mine"


def test_a_filter_is_written_as_forms_are(rest):
    item = rest.post("/v1/items", json=_new(name="Tea pot")).json()
    found = rest.get(f'/v1/items?filter=name="Tea+pot"+AND+sku="{item["sku"]}"').json()["items"]
    assert [each["id"] for each in found] == [item["id"]]


def test_an_unknown_method_is_unimplemented(mesh, channel):
    call = channel.unary_unary("/meshwork.items.v1.ItemService/Nothing")
    with pytest.raises(grpc.RpcError) as refused:
        call(b"", timeout=10, metadata=(("authorization", f"Bearer {mesh.token()}"),))
    assert refused.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_health_needs_no_token(channel):
    answer = health_pb2_grpc.HealthStub(channel).Check(
        health_pb2.HealthCheckRequest(service="meshwork.items.v1.ItemService"), timeout=10
    )
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_reflection_lists_the_services_to_those_with_a_token(mesh, channel):
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    asked = [reflection_pb2.ServerReflectionRequest(list_services="")]
    metadata = (("authorization", f"Bearer {mesh.token()}"),)
    (answer,) = stub.ServerReflectionInfo(iter(asked), timeout=10, metadata=metadata)
    assert "meshwork.items.v1.ItemService" in {each.name for each in answer.list_services_response.service}
    with pytest.raises(grpc.RpcError) as refused:
        list(stub.ServerReflectionInfo(iter(asked), timeout=10))
    assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED
