"""No secret gets into a log line, wherever it stands."""

import dataclasses
import json
import re
import string
import time

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, SecretStr

from grpc_common.logs import render
from grpc_common.message_view import MessageView
from grpc_common.redaction import MAX_TEXT, REDACTED, is_secret, redact, redact_text
from meshwork.common.v1 import errors_pb2
from meshwork.items.v1 import items_service_pb2 as pb

JWT = "eyJhbGciOiJFUzI1NiIsImtpZCI6ImsxIn0.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJlLWhlcmU"

secret_names = st.builds(
    lambda prefix, name, style: style(f"{prefix}{name}"),
    st.sampled_from(["", "db_", "x-", "the ", "AWS_"]),
    st.sampled_from(
        [
            "password",
            "authorization",
            "access_token",
            "refresh-token",
            "secret",
            "client_secret",
            "api_key",
            "api-key",
            "cookie",
            "set-cookie",
            "passwd",
            "pwd",
            "private_key",
            "credentials",
            "passphrase",
            "proxy-authorization",
        ]
    ),
    st.sampled_from([str, str.upper, str.title, lambda name: re.sub(r"[_\- ](\w)", lambda m: m[1].upper(), name)]),
)
# Of a kind that no other part of a line could hold by chance.
secrets = st.text(string.ascii_letters + string.digits, min_size=12, max_size=40).map(lambda text: f"zQ{text}9x")
shaped = st.sampled_from(
    [
        "Bearer {}",
        "bearer   {}",
        "postgresql+asyncpg://items:{}@db:5432/items",
        "redis://:{}@cache",
        "eyJ{0}abcdefgh.eyJ{0}.{0}",
        "hvs.{}abcdefghijklmnop",
        "mrt_0123456789abcdef0123456789abcdef.7.{}",
        "DELETE /v1/auth/families/mrt_0123456789abcdef0123456789abcdef.0.{} refused",
        '{{"password": "{}"}}',
        "{{'token': '{}'}}",
        "password={}",
        "authorization=Bearer {}",
        "{{'authorization': Bearer {}}}",
        "user=a&api_key={}&b=1",
        "authorization: {}",
        "Cookie: session={}; other=1",
        "Settings(url='x', client_secret='{}')",
        "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----",
    ]
)
words = st.sampled_from(["bearer", "BEARER", "Basic", "token", "password", "secret=", "cookie:", "://", "eyJ", "="])
texts = st.text(string.ascii_letters + " .,:/\n", max_size=200) | st.lists(words, max_size=4).map(" ".join)


@dataclasses.dataclass
class Login:
    name: str
    password: str


class Model(BaseModel):
    password: str


class Opaque:
    def __init__(self, text):
        self.text = text

    def __repr__(self):
        return self.text


def nested(leaves):
    return st.recursive(
        leaves,
        lambda inner: (
            st.lists(inner, min_size=1, max_size=3)
            | st.tuples(inner)
            | st.dictionaries(st.sampled_from(["a", "items", "next"]), inner, min_size=1, max_size=3)
        ),
        max_leaves=6,
    )


@st.composite
def hidden(draw):
    """Return a secret and something deep that holds it."""
    secret = draw(secrets)
    text = f"{draw(texts)} {draw(shaped).format(secret)} {draw(texts)}"
    leaf = draw(
        st.one_of(
            st.builds(lambda name: {name: secret}, secret_names),
            st.builds(lambda name: {name: [secret, {"deep": secret}]}, secret_names),
            st.builds(lambda name: {name: secret.encode()}, secret_names),
            st.just(text),
            st.just(text.encode()),
            st.just({text: 1}),
            st.just(Login("alice", secret)),
            st.just(Model(password=secret)),
            st.just(SecretStr(secret)),
            st.just(Opaque(text)),
            st.just(ValueError(text)),
        )
    )
    return secret, draw(nested(st.just(leaf)))


@settings(max_examples=400, deadline=None)
@given(hidden=hidden(), key=st.sampled_from(["event", "reason", "data", "x"]))
def test_a_secret_is_in_no_line_however_deep_it_was(hidden, key):
    secret, value = hidden
    line = render(None, "info", {"event": "e", key: value})
    assert secret not in line.decode()
    assert json.loads(line)["level"] == "info"


@settings(max_examples=200, deadline=None)
@given(secret=secrets, shape=shaped, text=texts)
def test_a_secret_is_in_no_traceback(secret, shape, text):
    try:
        try:
            raise KeyError(shape.format(secret))
        except KeyError as error:
            raise RuntimeError(f"{text} {shape.format(secret)}") from error
    except RuntimeError as error:
        line = json.loads(render(None, "error", {"event": "failed", "exc_info": error}))
    assert secret not in line["exception"]
    assert "RuntimeError" in line["exception"]
    assert "KeyError" in line["exception"]


@settings(max_examples=200)
@given(
    value=st.recursive(
        st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(string.ascii_lowercase + " ", max_size=30),
        lambda inner: st.lists(inner) | st.dictionaries(st.text("abc", max_size=3), inner),
        max_leaves=20,
    ).filter(lambda value: not any(mark in repr(value) for mark in ("basic", "bearer")))
)
def test_what_is_no_secret_stays_as_it_is(value):
    assert redact(value) == value


@pytest.mark.parametrize(
    "text",
    [
        "the token has expired",
        "no such item",
        "GET /meshwork.items.v1.ItemService/GetItem",
        "https://example.org:8443/a?page=2",
        "basic authentication is refused",
        "keys of the map",
        "a secretary's notes",
        "password must have 12 characters",
        "next_page_token",
        "0af7651916cd43dd8448eb211c80319c",
        "page_size=10 order_by=name",
    ],
)
def test_plain_words_are_left_alone(text):
    assert redact_text(text) == text


def test_what_is_left_still_tells_what_it_was():
    assert redact_text("postgresql://items:pw@db/items") == f"postgresql://items:{REDACTED}@db/items"
    assert redact_text(f"Authorization: Bearer {JWT}") == f"Authorization: {REDACTED}"
    assert redact_text(f"got {JWT}!") == f"got {REDACTED}!"
    assert redact({"token": None, "has_password": True, "page_token": "abc", "pin": 1}) == {
        "token": None,
        "has_password": True,
        "page_token": "abc",
        "pin": 1,
    }


@pytest.mark.parametrize("name", ["page_token", "nextPageToken", "token_type", "item", "id", "monkey", "keyword"])
def test_names_that_give_nothing_away(name):
    assert not is_secret(name)


@pytest.mark.parametrize(
    "text",
    [
        "a-" * 20000,
        "eyJ" * 20000,
        "://a:" * 10000,
        "token=" * 10000,
        "-----BEGIN PRIVATE KEY-----" * 2000,
        "password\\" * 5000,
        '"' * 40000,
        "basic " * 10000,
        "Bearer" + " " * 40000,
        "secret" + "-" * 40000,
    ],
)
def test_hostile_texts_cost_no_time(text):
    began = time.thread_time()
    assert len(redact_text(text)) <= MAX_TEXT + 1
    assert time.thread_time() - began < 0.5


def test_what_refers_to_itself_ends():
    loop = {"a": 1}
    loop["again"] = loop
    assert "…" in json.dumps(redact(loop), ensure_ascii=False)


def test_a_broken_repr_does_not_break_the_line():
    class Broken:
        def __repr__(self):
            raise RuntimeError("no")

    assert "Broken" in redact(Broken())


def test_messages_are_shown_by_field_without_secrets_and_within_the_room():
    item = pb.Item(id="1", name=f"Bearer {JWT}", description="d" * 5000)
    shown = MessageView(600).of(item)
    assert shown["id"] == "1"
    assert shown["name"] == f"Bearer {REDACTED}"
    assert len(shown["description"]) <= 257
    assert MessageView().of(b"abc") == "<3 bytes>"
    fields = [descriptor_pb2.FieldDescriptorProto(name=str(number), json_name="n" * 50) for number in range(1000)]
    many = descriptor_pb2.DescriptorProto(name="many", field=fields)
    shown = MessageView(600).of(many)
    assert shown["field"][-1] == "…"
    assert len(json.dumps(shown)) < 2000
    fact = errors_pb2.ErrorDetail(metadata={"password": "hunter2", "why": "x"})
    assert MessageView().of(fact) == {"metadata": {"password": REDACTED, "why": "x"}}


def test_fields_of_every_type_are_shown():
    options = descriptor_pb2.FieldOptions(ctype="CORD", debug_redact=True)
    part = descriptor_pb2.UninterpretedOption(
        string_value=b"\xff\xfe", positive_int_value=7, name=[{"name_part": "n", "is_extension": True}]
    )
    options.uninterpreted_option.append(part)
    assert MessageView().of(options) == {
        "ctype": "CORD",
        "debug_redact": True,
        "uninterpreted_option": [
            {
                "name": [{"name_part": "n", "is_extension": True}],
                "positive_int_value": 7,
                "string_value": "<2 bytes>",
            }
        ],
    }


def test_what_does_not_fit_is_said_to_be_left_out():
    fact = errors_pb2.ErrorDetail(code="c" * 50, message="m", metadata={str(number): "x" * 9 for number in range(50)})
    assert MessageView(20).of(fact) == {"code": "c" * 16 + "…", "…": "left out"}
    shown = MessageView(150).of(fact)["metadata"]
    assert shown["…"] == "left out"
    assert 1 < len(shown) < 20


def test_a_field_that_its_proto_calls_secret_is_hidden():
    file = descriptor_pb2.FileDescriptorProto(name="pinned.proto", package="pinned", syntax="proto3")
    field = file.message_type.add(name="Card").field.add(name="pin", number=1, type="TYPE_STRING")
    field.options.debug_redact = True
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    card = message_factory.GetMessageClass(pool.FindMessageTypeByName("pinned.Card"))
    assert MessageView().of(card(pin="1234")) == {"pin": REDACTED}
