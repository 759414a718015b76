"""`./mesh call`: services called by hand, by what they say of themselves."""

import json
import uuid

import pytest


def new():
    return {"name": "Kettle", "sku": f"CALL-{uuid.uuid4()}", "quantity": 3, "price": 29.5}


def test_a_call_gives_its_reply_as_json(mesh):
    status, out, err = mesh("call", "items", "CreateItem", json.dumps(new()))
    assert (status, err) == (0, "")
    created = json.loads(out)
    assert created["name"] == "Kettle"
    status, out, _ = mesh("call", "items", "meshwork.items.v1.ItemService/GetItem", json.dumps({"id": created["id"]}))
    assert status == 0
    assert json.loads(out)["id"] == created["id"]


def test_a_request_may_stand_in_a_file(mesh, tmp_path):
    (tmp_path / "request.json").write_text(json.dumps(new()))
    assert mesh("call", "items", "CreateItem", f"@{tmp_path / 'request.json'}")[0] == 0


def test_what_there_is(mesh):
    status, out, _ = mesh("call", "items", "--list")
    assert status == 0
    assert "meshwork.items.v1.ItemService" in out
    assert "  ListItems(ListItemsRequest) returns (stream Item)" in out
    assert "  BatchCreateItems(stream CreateItemRequest) returns (BatchCreateResponse)" in out


def test_replies_of_a_stream_come_a_line_each(mesh):
    status, out, _ = mesh(
        "call", "items", "grpc.health.v1.Health/Watch", '{"service": "meshwork.items.v1.ItemService"}', "--timeout", "1"
    )
    assert status == 1  # it goes on until its time is up
    assert [json.loads(line) for line in out.splitlines()] == [{"status": "SERVING"}]


def test_the_streams_of_items(mesh, tmp_path):
    """Requests a line each, one of them bad; replies a line each; and a watch that sees what was done since another."""
    status, out, _ = mesh("call", "items", "WatchItems", "--timeout", "2")
    assert status == 1  # it goes on until its time is up
    token = json.loads(out.splitlines()[-1])["resume_token"]
    (tmp_path / "all").write_text("\n".join(map(json.dumps, [good := new(), new() | {"name": ""}])))
    status, out, _ = mesh("call", "items", "BatchCreateItems", f"@{tmp_path / 'all'}")
    assert status == 0
    reply = json.loads(out)
    (created,) = reply["created_ids"]
    assert [error["field"] for error in reply["errors"]] == ["[1].name"]

    status, out, _ = mesh("call", "items", "ListItems", json.dumps({"filter": f'sku = "{good["sku"]}"'}))
    assert status == 0
    assert [json.loads(line)["id"] for line in out.splitlines()] == [created]

    (tmp_path / "actions").write_text(f'{{"delete_id": "{created}"}}\n{{"delete_id": "nobody"}}\n')
    status, out, _ = mesh("call", "items", "SyncItems", f"@{tmp_path / 'actions'}")
    assert status == 0
    assert [json.loads(line).get("error", {}).get("code") for line in out.splitlines()] == [None, "NOT_FOUND"]

    status, out, _ = mesh("call", "items", "WatchItems", json.dumps({"resume_token": token}), "--timeout", "2")
    assert status == 1
    changes = [json.loads(line).get("change") for line in out.splitlines()]
    kinds = [change["kind"] for change in changes if change and change["item"]["id"] == created]
    assert kinds == ["ITEM_CHANGE_KIND_CREATED", "ITEM_CHANGE_KIND_DELETED"]


@pytest.mark.parametrize(
    ("arguments", "status", "sentences"),
    [
        (["GetItem", '{"id": "nope"}'], 1, ["GetItem: NOT_FOUND: there is no item nope", "correlation_id: "]),
        (["CreateItem", '{"sku": "!"}'], 1, ["INVALID_ARGUMENT", "name: must be", "sku: must"]),
        (["CreateItem", "{}", "--roles", "reader"], 1, ["PERMISSION_DENIED"]),
        (["GetItm"], 2, ["there is no method GetItm; did you mean GetItem?"]),
        (["GetItem", "{"], 2, ["the request is no GetItemRequest"]),
        (["GetItem", "[]"], 2, ["the request is no GetItemRequest: it is no JSON object"]),
        (["SyncItems", "[]"], 2, ["the request is no ItemSyncRequest: it is no JSON object"]),
        (["GetItem", "{}", "--roles", "a" * 5000], 2, ["cannot read a request of more than 4096 bytes"]),
        (["GetItem", '{"di": "x"}'], 2, ['no field named "di"']),
    ],
)
def test_what_goes_wrong_is_said(mesh, arguments, status, sentences):
    found, out, err = mesh("call", "items", *arguments)
    assert (found, out) == (status, "")
    for sentence in sentences:
        assert sentence in err


def test_a_service_nobody_knows(mesh):
    status, _, err = mesh("call", "itms", "GetItem")
    assert status == 2
    assert "there is no service itms; did you mean items?; there are: items" in err


@pytest.mark.parametrize("method", ["GetItem", "SyncItems"])
def test_a_file_that_is_no_text(mesh, tmp_path, method):
    (tmp_path / "request").write_bytes(b'{"id": "\xff"}')
    status, _, err = mesh("call", "items", method, f"@{tmp_path / 'request'}")
    assert (status, err) == (2, f"mesh: {tmp_path / 'request'} is no JSON: byte 8 of it is no UTF-8\n")
