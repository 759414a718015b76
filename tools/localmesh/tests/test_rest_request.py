"""What a REST request may say: nothing twice, nothing that would be ignored, for every route of every service."""

import json
from itertools import product
from urllib.parse import quote

import pytest
from google.protobuf.descriptor import FieldDescriptor
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from localmesh.intent.rest import rest_methods
from meshwork.auth.v1 import auth_service_pb2
from meshwork.items.v1 import items_service_pb2
from shelf_service import shelf_service

SERVICES = [
    items_service_pb2.DESCRIPTOR.services_by_name["ItemService"],
    auth_service_pb2.DESCRIPTOR.services_by_name["AuthService"],
    shelf_service(),
]
WAYS = [(method, binding) for method in rest_methods(SERVICES) for binding in method.bindings]
BOUND = [(method, binding, name) for method, binding in WAYS for name in binding.bound]
OF_OURS = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


def _name(way):
    return f"{way.http_method} {way.template}" if hasattr(way, "template") else str(getattr(way, "path", way))


def _message(method):
    (found,) = [
        each.input_type for service in SERVICES for each in service.methods if method.path.endswith(f"/{each.name}")
    ]
    return found


def _url(binding, values):
    path = binding.template
    for name in binding.bound:
        start = path.index("{" + name)
        end = path.index("}", start)
        template = path[start + 1 : end].partition("=")[2] or "*"
        value = values.get(name) or template.replace("*", f"in-path-{name}")
        path = path[:start] + value + path[end + 1 :]
    return path


def _bound_value(request, name):
    for part in name.split("."):
        request = getattr(request, part)
    return request


def _json_names(message, dotted):
    """Every way to write the path of a field: each part as the proto has it, or as JSON has it."""
    forms = []
    for part in dotted.split("."):
        field = message.fields_by_name[part]
        forms.append({field.name, field.json_name})
        message = field.message_type
    return [".".join(parts) for parts in product(*forms)]


def _nested(dotted, value):
    for part in reversed(dotted.split(".")):
        value = {part: value}
    return value


def _send(client, binding, *, path=None, query="", body=None, **values):
    url = (path or _url(binding, values)) + (f"?{query}" if query else "")
    if body is None and binding.body:
        body = {}
    content = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    return client.request(binding.http_method, url, content=content)


@pytest.fixture
def client(front):
    with front.client() as client:
        yield client


def test_there_are_routes_of_all_services():
    assert {method.path.split("/")[1] for method, _ in WAYS} == {service.full_name for service in SERVICES}
    assert len(WAYS) >= 20


@pytest.mark.parametrize(("method", "binding"), WAYS, ids=_name)
def test_what_the_path_names_is_what_is_acted_on(front, client, method, binding):
    answer = _send(client, binding)
    assert answer.status_code == 200, answer.text
    (seen,) = front.calls
    assert seen.path == method.path
    for name in binding.bound:
        assert "in-path" in _bound_value(seen.request, name)


@pytest.mark.parametrize(("method", "binding", "name"), BOUND, ids=_name)
@pytest.mark.parametrize("value", ["another", "in-path"])
def test_what_the_path_binds_is_not_bound_in_the_query(front, client, method, binding, name, value):
    for written in _json_names(_message(method), name):
        own = _url(binding, {}).rpartition("/")[2].partition(":")[0] if value == "in-path" else value
        for key in (
            written,
            quote(written).replace("i", "%69"),
            f".{written}",
            f"{written}.",
            written.replace(".", ".."),
        ):
            answer = _send(client, binding, query=f"{key}={own}")
            assert answer.status_code == 400, (key, answer.text)
            assert answer.json()["code"] == 3
            assert not front.calls


@pytest.mark.parametrize(("method", "binding", "name"), BOUND, ids=_name)
@pytest.mark.parametrize("value", ["another", "in-path"])
def test_what_the_path_binds_is_not_bound_in_the_body(front, client, method, binding, name, value):
    for written in _json_names(_message(method), name):
        inside = written if binding.body in ("*", "") else written.partition(".")[2]
        own = value if value == "another" else f"in-path-{name}"
        if not inside:
            continue
        for text in (json.dumps(_nested(inside, own)), json.dumps(_nested(inside, own)).replace("d", "\\u0064")):
            answer = _send(client, binding, body=text.encode())
            assert answer.status_code == 400, (text, answer.text)
            assert not front.calls


@pytest.mark.parametrize(("method", "binding"), [each for each in WAYS if each[1].body == "*"], ids=_name)
def test_what_the_body_holds_is_not_taken_from_the_query(front, client, method, binding):
    for field in _message(method).fields:
        for name in {field.name, field.json_name}:
            answer = _send(client, binding, query=f"{name}=SECRET")
            assert answer.status_code == 400, answer.text
            assert "SECRET" not in answer.text
            assert name in answer.json()["message"]
    assert not front.calls


def test_what_is_the_body_is_not_in_the_query_either(front, client):
    (update,) = [binding for method, binding in WAYS if method.path.endswith("/UpdateBook")]
    assert _send(client, update, query="book.display_name=x").status_code == 400
    assert not front.calls
    assert _send(client, update, query="note=x&more=1&more=2").status_code == 200
    assert list(front.calls[0].request.more) == ["1", "2"]


@pytest.mark.parametrize(("method", "binding"), WAYS, ids=_name)
def test_an_unknown_field_of_the_body_is_named(front, client, method, binding):
    answer = _send(client, binding, body={"quantiy": 9})
    assert answer.status_code == 400
    assert "quantiy" in answer.json()["message"]
    (bad,) = [each for each in answer.json()["details"] if each["@type"].endswith("BadRequest")]
    assert [violation["field"] for violation in bad["field_violations"]] == ["quantiy"]
    assert not front.calls


BOOK = "/v1/shelves/s/books"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ('{"book": {"nam": 1}}', "book.nam"),
        ('{"book": {"author": {"books": [{}, {"nam": 1}]}}}', "book.author.books[1].nam"),
        ('{"book": {"byRole": {"editor": {"nam": 1}}}}', "book.byRole.editor.nam"),
        ('{"note": "a", "note": "b"}', "note"),
        ('{"book": {"displayName": "a", "display_name": "b"}}', "book.display_name"),
        ('{"book": {"extra": {"a": 1, "a": 2}}}', "'a'"),  # the transcoder's own words
        ('{"book": {"labels": {"a": "1", "\\u0061": "2"}}}', "'a'"),
        ('{"Note": "a"}', "Note"),
        ('{"note ": "a"}', "note "),
        ('{"": "a"}', ""),
        ('{"book": {"@type": "x"}}', "book.@type"),
    ],
)
def test_a_field_that_would_be_ignored_or_is_there_twice_is_named(front, client, body, field):
    answer = client.post(BOOK, content=body)
    assert answer.status_code == 400
    assert field in answer.json()["message"]
    assert not front.calls


@pytest.mark.parametrize(
    "book",
    [
        {"displayName": "x", "tags": ["a", "b"], "pages": "9007199254740993"},
        {"display_name": "x", "author": {"full_name": "y", "books": [{"name": "z"}]}},
        {"labels": {"any name": "x", "": "y"}, "by_role": {"editor": {"fullName": "z"}}},
        {"extra": {"any": {"thing": [1, -0.5e3, None, True, {"\U0001f600": "\U0001f600"}]}}},
        {"printed_at": "2026-01-02T03:04:05.123456789Z", "author": None, "tags": []},
    ],
)
def test_what_is_known_is_taken_in_either_form(front, client, book):
    answer = client.post(BOOK, json={"book": book})
    assert answer.status_code == 200, answer.text
    assert front.calls[0].request.shelf_id == "s"
    assert front.calls[0].request.HasField("book")


@pytest.mark.parametrize(
    "body",
    [
        "{'note': 'a'}",
        '{"note": "a",}',
        "{note: 1}",
        '{"note": NaN}',
        '{"note": "a"} x',
        '{"note": "a"}{"note": "b"}',
        '{"note": "a\nb"}',
        '{"note": "\\ud800"}',
        '{"note": "\\x41"}',
        '{"note": 01}',
        '{"note": "a" "more": []}',
        "[" * 10_000,
        "[" * 1_000_000,
        '{"book": ' * 200 + "{}" + "}" * 200,
        "\ufeff{}",
        "{",
        '"',
        "nul",
    ],
)
def test_what_is_no_json_is_refused(front, client, body):
    answer = client.post(BOOK, content=body.encode())
    assert answer.status_code == 400, answer.text
    assert answer.json()["code"] == 3
    assert not front.calls


@pytest.mark.parametrize("inner", ["[%s]", "{%s}"])
def test_a_long_name_does_not_make_a_body_slow_to_read(front, client, inner):
    """Everybody waits while a script reads. Copied for each of what is in it, the name would be gigabytes."""
    name, many = "k" * 500_000, 40_000
    inside = ",".join("1" if inner[0] == "[" else f'"{n}":1' for n in range(many))
    answer = client.post("/v1/auth/login", content=f'{{"username": {{"{name}": {inner % inside}}}}}'.encode())
    assert answer.status_code == 400
    assert not front.calls


def test_a_name_is_not_sent_back_at_its_full_length(client):
    for name in ("k" * 1_000_000, "é" * 500_000, "x" + "é" * 400_000):
        answer = client.post("/v1/items", content=f'{{"{name}": 1}}'.encode())
        assert answer.status_code == 400
        (field,) = [each["field"] for each in answer.json()["details"][1]["field_violations"]]
        assert field.endswith("...")
        assert name.startswith(field[:-3])
        assert len(answer.content) < 2000


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**31), 2**31)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=12,
)


@OF_OURS
@given(extra=st.dictionaries(st.text(), json_values, max_size=4), ascii_only=st.booleans())
def test_every_json_there_is_can_be_read(only_ingress, extra, ascii_only):
    """Of a field that takes any JSON."""
    only_ingress.forget()
    text = json.dumps({"book": {"extra": extra}}, ensure_ascii=ascii_only)
    with only_ingress.client() as client:
        answer = client.post(BOOK, content=text.encode())
    assert answer.status_code == 200, (text, answer.text)


names = st.sampled_from(
    ["id", "ID", "Id", "%69d", "id%20", "+id", "id.", ".id", "id[]", "etag", "name", "", "id%00", "i%64"]
)
values = st.sampled_from(["B", "", "%42", "A", "a%2Fb", "B&id=C"])
paths = st.sampled_from(
    ["A", "A%2FB", "A%2fB", "A/", "A%3Fid=B", "A;id=B", "A.B", "%41", "A%252FB", "A//", "A:x", "%2e%2e", "A+B"]
)


@OF_OURS
@given(
    path=paths,
    queries=st.lists(st.tuples(names, values), max_size=3),
    keys=st.lists(st.sampled_from(['"id"', '"i\\u0064"', '"ID"', '"name"', '"etag"', "'id'", "id"]), max_size=3),
    method=st.sampled_from(["GET", "DELETE", "PATCH", "POST", "PUT"]),
)
def test_whatever_is_written_where_the_path_decides(only_ingress, path, queries, keys, method):
    only_ingress.forget()
    query = "&".join(f"{name}={value}" for name, value in queries)
    body = "{" + ", ".join(f'{key}: "B"' for key in keys) + "}"
    headers = {
        "x-http-method-override": "DELETE",
        "x-envoy-original-path": "/v1/items/B",
        "x-original-url": "/v1/items/B",
    }
    with only_ingress.client() as client:
        answer = client.request(method, f"/v1/items/{path}?{query}", content=body, headers=headers)
    for seen in only_ingress.calls:
        assert seen.path.rpartition("/")[2] == {"GET": "GetItem", "DELETE": "DeleteItem", "PATCH": "UpdateItem"}[method]
        assert seen.request.id in {"A", "A/B", "A%2FB", "A?id=B", "A;id=B", "A.B", "A:x", "A+B", "A B"}, path
        assert "B" not in (seen.request.id if path in ("A", "%41") else "")
    assert bool(only_ingress.calls) == (answer.status_code == 200)


@pytest.mark.parametrize(
    ("written", "meant"),
    [("a+b", "a b"), ("a%2Bb", "a+b"), ("a%20b", "a b"), ("%2B+%2B", "+ +"), ("caf%C3%A9+%26", "café &")],
)
def test_a_query_is_read_as_forms_are_written(front, client, written, meant):
    assert client.get(f"/v1/items?filter={written}").status_code == 200
    assert front.calls[0].request.filter == meant


@pytest.mark.parametrize("url", ["/v1/items?page_size", "/v1/items?filter=&order_by", "/v1/items?=", "/v1/items?=1"])
def test_half_a_parameter_is_not_ignored(front, client, url):
    answer = client.get(url)
    assert answer.status_code == 400, answer.text
    assert "query of the URL" in answer.json()["message"]
    assert not front.calls


def test_a_plus_in_a_path_is_a_plus(front, client):
    assert client.get("/v1/items/a+b").status_code == 200
    assert front.calls[0].request.id == "a+b"


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("/v1/items?page_size=1&page_size=2", "page_size"),
        ("/v1/items?pageSize=1&page_size=2", "page_size"),
        ("/v1/books/b?book.displayName=a&book.display_name=b", "book.display_name"),
        ("/v1/books/b?book.author.fullName=a&book.author.full_name=b", "book.author.full_name"),
    ],
)
def test_a_parameter_that_is_there_twice_is_refused(front, client, url, name):
    answer = client.get(url)
    assert answer.status_code == 400
    assert name in answer.json()["message"]
    assert not front.calls


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate", "GZIP", "identity, gzip"])
@pytest.mark.parametrize("path", ["/v1/items", "/v1/auth/login", "/v1/nothing"])
def test_a_compressed_body_is_unsupported_and_what_is_supported_is_said(front, client, encoding, path):
    answer = client.post(path, content=b"\x1f\x8b\x08", headers={"content-encoding": encoding})
    assert answer.status_code == 415
    assert answer.headers["accept-encoding"] == "identity"
    assert answer.json()["code"] == 3
    assert not front.calls


def test_the_token_is_judged_before_what_is_asked(front):
    with front.client(token="bad") as client:
        for answer in (
            client.patch("/v1/items/A", json={"quantiy": 1}),
            client.patch("/v1/items/A", json={"id": "B"}),
            client.patch("/v1/items/A", content=b"{"),
            client.delete("/v1/items/A?id=B"),
            client.delete("/v1/items/A", headers={"if-match": "x"}),
        ):
            assert answer.status_code == 401, answer.text
    assert not front.calls


def test_every_field_that_is_text_may_have_any_letter(front, client):
    text = 'é \U0001f600 " \\ / \u2028 \x7f'
    assert client.post("/v1/items", json={"name": text}).status_code == 200
    assert front.calls[0].request.name == text


def test_no_field_of_a_request_is_called_like_another_ones_json_name():
    for method, _ in WAYS:
        fields: list[FieldDescriptor] = list(_message(method).fields)
        assert len({name for each in fields for name in {each.name, each.json_name}}) == sum(
            len({each.name, each.json_name}) for each in fields
        )
