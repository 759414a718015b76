"""If-Match of HTTP is the etag of a request (RFC 9110, section 13.1.1)."""

import grpc
import pytest

OWN = '"1f"'
CHANGES = [
    ("PATCH", "/v1/items/A", {"quantity": 1}),
    ("DELETE", "/v1/items/A", None),
    ("POST", "/v1/users/A:setRoles", {}),
]
CASES = pytest.mark.parametrize(("method", "path", "body"), CHANGES)


@pytest.fixture
def ask(front):
    def ask(method, path, body, *if_match, etag=None, **headers):
        if etag is not None and body is None:
            path = f"{path}?etag={etag}"
        elif etag is not None:
            body = body | {"etag": etag}
        told = [("if-match", each) for each in if_match] + [(key.replace("_", "-"), headers[key]) for key in headers]
        with front.client() as client:
            return client.request(method, path, json=body, headers=told)

    return ask


@CASES
@pytest.mark.parametrize("value", [OWN, f'W/"2", {OWN}', f"{OWN}, {OWN}", f",{OWN},", f'{OWN}, W/"a,b"'])
def test_it_is_the_etag_of_the_request(front, ask, method, path, body, value):
    assert ask(method, path, body, value).status_code == 200
    (seen,) = front.calls
    assert seen.request.etag == OWN
    assert seen.request.id == "A"


@CASES
def test_in_several_lines_it_is_one_list(front, ask, method, path, body):
    assert ask(method, path, body, 'W/"2"', OWN).status_code == 200
    assert front.calls[0].request.etag == OWN


def test_the_rest_of_the_message_stays_as_it_was(front, ask):
    text = "x" * 70_000
    assert (
        ask("PATCH", "/v1/items/A", {"name": "é", "description": text, "price": 0.1, "quantity": 7}, OWN).status_code
        == 200
    )
    seen = front.calls[0].request
    assert (seen.name, seen.description, seen.price, seen.quantity, seen.etag) == ("é", text, 0.1, 7, OWN)


@CASES
def test_any_resource_that_is_there_will_do(front, ask, method, path, body):
    assert ask(method, path, body, "*").status_code == 200
    assert front.calls[0].request.etag == ""


@CASES
def test_it_may_say_what_the_request_says(front, ask, method, path, body):
    assert ask(method, path, body, OWN, etag=OWN).status_code == 200
    assert front.calls[0].request.etag == OWN


@CASES
def test_it_may_not_say_another_thing(front, ask, method, path, body):
    refused = ask(method, path, body, OWN, etag='"20"')
    assert (refused.status_code, refused.json()["code"]) == (400, 3)
    assert "etag" in refused.json()["message"]
    assert not front.calls


@CASES
@pytest.mark.parametrize("value", ['W/"1f"', 'W/"1f", W/"2"'])
def test_a_weak_etag_is_equal_to_none(front, ask, method, path, body, value):
    refused = ask(method, path, body, value)
    assert (refused.status_code, refused.json()["code"]) == (412, 10)
    assert not front.calls


@CASES
@pytest.mark.parametrize(
    "value", ["1f", "", '"1f', '1f"', '"1f" "2"', '"1f", x', 'w/"1f"', '"a", "b"', '*, "a"', '"a b"']
)
def test_what_cannot_be_honoured_is_refused_not_ignored(front, ask, method, path, body, value):
    refused = ask(method, path, body, value)
    assert (refused.status_code, refused.json()["code"]) == (400, 3)
    assert "if-match" in refused.json()["message"]
    assert not front.calls


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        ("POST", "/v1/items", {"if_match": OWN}),
        ("POST", "/v1/items", {"if_none_match": "*"}),
        ("POST", "/v1/items", {"if_unmodified_since": "Sat, 29 Oct 1994 19:43:31 GMT"}),
        ("PATCH", "/v1/items/A", {"if_none_match": OWN}),
        ("DELETE", "/v1/items/A", {"if_unmodified_since": "Sat, 29 Oct 1994 19:43:31 GMT"}),
        ("GET", "/v1/items/A", {"if_match": OWN}),
    ],
)
def test_a_method_refuses_the_preconditions_it_cannot_judge(front, ask, method, path, headers):
    refused = ask(method, path, None if method in ("GET", "DELETE") else {}, **headers)
    assert (refused.status_code, refused.json()["code"]) == (400, 3)
    assert next(iter(headers)).replace("_", "-") in refused.json()["message"]
    assert not front.calls


def test_what_only_saves_work_is_ignored(front, ask):
    assert ask("GET", "/v1/items/A", None, if_none_match=OWN).status_code == 200
    both = {"if_unmodified_since": "Sat, 29 Oct 1994 19:43:31 GMT"}
    assert ask("DELETE", "/v1/items/A", None, OWN, **both).status_code == 200  # RFC 9110, section 13.1.4


def _fail(code, *, late=False):
    def fail(request, context):
        if late:
            context.send_initial_metadata(())
        context.abort(code, "it has another etag")

    return fail


@CASES
@pytest.mark.parametrize("late", [False, True])
def test_a_precondition_that_fails_is_412(front, ask, method, path, body, late):
    front.answer = _fail(grpc.StatusCode.ABORTED, late=late)
    refused = ask(method, path, body, OWN)
    assert (refused.status_code, refused.json()["code"]) == (412, 10)
    assert refused.json()["message"] == "it has another etag"
    assert ask(method, path, body, etag=OWN).status_code == 409  # nobody said a precondition of HTTP


def test_another_conflict_is_none_of_a_precondition(front, ask):
    front.answer = _fail(grpc.StatusCode.ALREADY_EXISTS)
    assert ask("PATCH", "/v1/items/A", {}, OWN).status_code == 409


def test_to_grpc_it_means_nothing(front, make_items):
    front.answer = _fail(grpc.StatusCode.ABORTED)
    with make_items(front) as call, pytest.raises(grpc.RpcError) as refused:
        call("DeleteItem", metadata=(("if-match", OWN),))
    assert refused.value.code() is grpc.StatusCode.ABORTED
    assert front.calls[0].request.etag == ""
