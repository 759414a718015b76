"""Every kind of rule: what it lets through, what it refuses, and in which words."""

import math
import re
from itertools import count
from typing import Any

import grpc
import pytest
from buf.validate import validate_pb2  # the options below are its extensions
from google.protobuf import descriptor_pool, message_factory, text_format
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from google.protobuf.wrappers_pb2 import Int32Value, StringValue

from grpc_common.chain import Chain
from grpc_common.interceptors.error import ErrorInterceptor
from grpc_common.interceptors.validation import ValidationInterceptor
from grpc_common.testing import in_process
from grpc_common.validation.constraints import Constraints, UnsupportedConstraintError
from grpc_common.validation.validator import Validator, check_constraints, request_validator, validator_of
from meshwork.items.v1 import items_service_pb2

INF = math.inf
ITEM_SERVICE = "meshwork.items.v1.ItemService"
_number = count()
_FILE = """
    name: "{package}.proto" package: "{package}" syntax: "proto3"
    dependency: "buf/validate/validate.proto" dependency: "google/protobuf/timestamp.proto"
    dependency: "google/protobuf/duration.proto" dependency: "google/protobuf/wrappers.proto"
"""


_EXTENSION = """
    name: "constrained_extension.proto" package: "constrained_extension" syntax: "proto2"
    dependency: "buf/validate/validate.proto"
    extension { name: "odd" number: 1000 label: LABEL_OPTIONAL type: TYPE_BOOL extendee: ".buf.validate.StringRules" }
"""
descriptor_pool.Default().Add(text_format.Parse(_EXTENSION, FileDescriptorProto()))


def message(body: str) -> type[Any]:
    """Make a message class `M` of `body`, a DescriptorProto in text form; `PKG` stands for its package."""
    package = f"constrained{next(_number)}"
    text = f'message_type {{ name: "M" {body} }}'.replace("PKG", package)
    file = text_format.Parse(_FILE.format(package=package) + text, FileDescriptorProto())
    descriptor_pool.Default().Add(file)
    return message_factory.GetMessageClass(descriptor_pool.Default().FindMessageTypeByName(f"{package}.M"))


def field(kind: str, rules: str = "", *, name: str = "f", number: int = 1, more: str = "") -> str:
    """Write a field: `kind` is "string", "repeated int32", "optional double" or the name of a message or enum."""
    label, _, type_name = kind.rpartition(" ")
    where = "LABEL_REPEATED" if label == "repeated" else "LABEL_OPTIONAL"
    optional = "proto3_optional: true oneof_index: 0" if label == "optional" else ""
    named = f'type_name: ".{type_name}"' if "." in type_name else f"type: TYPE_{type_name.upper()}"
    options = f"options {{ [buf.validate.field] {{ {rules} }} }}" if rules else ""
    oneof = f'oneof_decl {{ name: "_{name}" }}' if optional else ""
    return f'field {{ name: "{name}" number: {number} label: {where} {named} {optional} {options} {more} }} {oneof}'


def validator(message_type: type[Any]) -> Validator:
    found = validator_of(message_type.DESCRIPTOR)
    assert found is not None
    return found


def faults(message_type: type[Any], **values: Any) -> list[tuple[str, str]]:
    found = validator(message_type).violations(message_type(**values))
    return [(violation.field, violation.message) for violation in found]


TIMESTAMP = "google.protobuf.Timestamp"
DURATION = "google.protobuf.Duration"
STRING_VALUE = "google.protobuf.StringValue"
FAR = 9_999_999_999
UUID = "6F9619FF-8b86-d011-b42d-00cf4fc964ff"
KINDS = [
    ("string", "string { min_len: 2 max_len: 3 }", ["ab", "abc", "😀😀😀"], ["", "a", "abcd"], "2 to 3 char"),
    ("string", "string { min_len: 1 }", ["a"], [""], "must be at least 1 characters long, not 0"),
    ("string", "string { max_len: 2 }", ["", "ab"], ["abc"], "must be at most 2 characters long, not 3"),
    ("string", "string { len: 2 }", ["ab", "é😀"], ["a", "abc"], "must be exactly 2 characters long"),
    ("string", "string { min_bytes: 2 max_bytes: 4 }", ["ab", "é", "😀"], ["a", "éé€"], "2 to 4 bytes of"),
    ("string", "string { len_bytes: 2 }", ["ab", "é"], ["éé"], "must be exactly 2 bytes of UTF-8 long"),
    ("string", 'string { pattern: "^a+$" }', ["a", "aa"], ["", "aa\n", "ba"], "must contain only 'a'"),
    ("string", 'string { pattern: "b" }', ["abc"], ["", "aa"], "must contain 'b'"),
    ("string", 'string { prefix: "ab" }', ["ab", "abc"], ["", "ba"], "must start with 'ab'"),
    ("string", 'string { suffix: "ab" }', ["ab", "cab"], ["", "ba"], "must end with 'ab'"),
    ("string", 'string { contains: "ab" }', ["ab", "cabc"], ["", "ba"], "must contain 'ab'"),
    ("string", 'string { not_contains: "ab" }', ["", "ba"], ["cabc"], "must not contain 'ab'"),
    ("string", 'string { in: "a" in: "b" }', ["a", "b"], ["", "c"], "must be one of 'a', 'b'"),
    ("string", 'string { not_in: "a" not_in: "b" }', ["", "c"], ["a"], "must not be one of 'a', 'b'"),
    ("string", 'string { const: "a" }', ["a"], ["", "b"], "must be 'a'"),
    ("string", "string { uuid: true }", [UUID], ["", UUID[:-1], UUID + "\n", "g" + UUID[1:]], "must be a UUID"),
    ("string", "string { tuuid: true }", [UUID.replace("-", "")], ["", UUID], "must be a UUID without dashes"),
    ("string", "string { ulid: true }", ["01ARZ3NDEKTSV4RRFFQ69G5FAV"], ["", "81ARZ3NDEKTSV4RRFFQ69G5FAV"], "a ULID"),
    ("string", "string { email: true }", ["a@b", "a.b+c@x-y.org"], ["", "a@", "@b", "a@b\n"], "an e-mail"),
    ("string", "string { hostname: true }", ["A-1.b.", "x" * 63], ["", "a..b", "-a", "1.2", "x" * 64], "a host"),
    ("string", "string { ip: true }", ["1.2.3.4", "::1"], ["", "1.2.3", "1.2.3.04"], "must be an IP address"),
    ("string", "string { ipv4: true }", ["1.2.3.4"], ["", "::1", "1.2.3.256"], "must be an IPv4 address"),
    ("string", "string { ipv6: true }", ["fe80::1%eth0", "::1%a%b"], ["", "1.2.3.4", ":::1", "::1%"], "an IPv6"),
    ("bytes", "bytes { min_len: 1 max_len: 2 }", [b"a", b"\0\xff"], [b"", b"abc"], "must be 1 to 2 bytes long"),
    ("bytes", "bytes { len: 2 }", [b"ab"], [b"a"], "must be exactly 2 bytes long"),
    ("bytes", 'bytes { prefix: "\\x01" suffix: "\\x02" }', [b"\1\2"], [b"\1"], "must end with the bytes 02"),
    ("bytes", 'bytes { contains: "\\x01" }', [b"a\1b"], [b""], "must contain the bytes 01"),
    ("bytes", 'bytes { in: "ab" }', [b"ab"], [b"a"], "must be 6162"),
    ("int32", "int32 { gte: 0 }", [0, 5, 2**31 - 1], [-1, -(2**31)], "must be 0 or more"),
    ("int64", "int64 { gt: 0 }", [1, 2**63 - 1], [0, -1], "must be more than 0"),
    ("uint32", "uint32 { lte: 5 }", [0, 5], [6], "must be 5 or less"),
    ("uint64", "uint64 { lt: 5 }", [0, 4], [5, 2**64 - 1], "must be less than 5"),
    ("sint32", "sint32 { gte: -1 lt: 2 }", [-1, 1], [-2, 2], "must be -1 or more and less than 2"),
    ("sint64", "sint64 { gte: 5 lt: 2 }", [1, 5], [2, 4], "must be 5 or more or less than 2"),
    ("fixed32", "fixed32 { gt: 1 lt: 1 }", [], [0, 1, 2], "must be more than 1 and less than 1"),
    ("fixed64", "fixed64 { const: 3 }", [3], [0], "must be 3"),
    ("sfixed32", "sfixed32 { in: -1 in: 1 }", [1, -1], [0], "must be one of -1, 1"),
    ("sfixed64", "sfixed64 { not_in: 0 }", [1], [0], "must not be 0"),
    ("double", "double { gte: 0 }", [0, -0.0, INF], [-0.1, -INF, math.nan], "must be 0 or more"),
    ("double", "double { finite: true gte: 0 }", [0, 1e308], [INF, math.nan, -INF], "must be a finite number"),
    ("float", "float { finite: true lt: 0.5 }", [0.25, -1e30], [0.5, 1], "must be less than 0.5"),
    ("double", "double { lt: 1 gt: 5 }", [0, 6], [1, 3, 5, math.nan], "must be more than 5 or less than 1"),
    ("bool", "bool { const: true }", [True], [False], "must be true"),
    (DURATION, "duration { gt { } lte { seconds: 5 } }", [Duration(nanos=1), Duration(seconds=5)],
     [Duration(), Duration(seconds=-1), Duration(seconds=5, nanos=1)], "must be more than 0s and 5s or less"),
    (DURATION, "duration { in { seconds: 1 } in { seconds: 2 } }", [Duration(seconds=2)], [Duration()],
     "must be one of 1s, 2s"),
    (TIMESTAMP, "timestamp { lt { seconds: 10 } }", [Timestamp(seconds=9)], [Timestamp(seconds=10)],
     "must be less than 1970-01-01T00:00:10Z"),
    (TIMESTAMP, "timestamp { lt_now: true }", [Timestamp(seconds=9)], [Timestamp(seconds=FAR)],
     "must be in the past"),
    (TIMESTAMP, "timestamp { gt_now: true }", [Timestamp(seconds=FAR)], [Timestamp(seconds=9)],
     "must be in the future"),
    (TIMESTAMP, "timestamp { within { seconds: 60 } }", [], [Timestamp(seconds=9)], "must be within 60s of now"),
    (STRING_VALUE, "string { min_len: 1 }", [StringValue(value="a")], [StringValue()], "must be at least 1"),
    ("google.protobuf.Int32Value", "int32 { gt: 0 }", [Int32Value(value=1)], [Int32Value()], "must be more than 0"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "rules", "good", "bad", "words"), KINDS, ids=[f"{kind}-{rules}" for kind, rules, *_ in KINDS]
)
def test_a_value_is_let_through_or_refused(kind, rules, good, bad, words):
    message_type = message(field(kind, rules))
    assert [faults(message_type, f=value) for value in good] == [[] for _ in good]
    for value in bad:
        (path, said), *others = faults(message_type, f=value)
        assert path == "f"
        assert not others
        assert words in said


ENUM = 'enum_type { name: "E" value { name: "E_UNSPECIFIED" number: 0 } value { name: "E_ONE" number: 1 } }'


@pytest.mark.parametrize(
    ("rules", "good", "bad", "words"),
    [
        ("defined_only: true", [0, 1], [2, -1], "must be one of E_UNSPECIFIED, E_ONE"),
        ("in: 1", [1], [0, 2], "must be E_ONE"),
        ("not_in: 0", [1, 2], [0], "must not be E_UNSPECIFIED"),
        ("const: 1", [1], [0], "must be E_ONE"),
    ],
)
def test_enums(rules, good, bad, words):
    message_type = message(f"{field('PKG.M.E', f'enum {{ {rules} }}', more='type: TYPE_ENUM')} {ENUM}")
    assert [faults(message_type, f=value) for value in good] == [[] for _ in good]
    assert [faults(message_type, f=value) for value in bad] == [[("f", words)] for _ in bad]


def test_a_field_without_presence_is_checked_when_it_is_zero():
    assert faults(message(field("string", "string { min_len: 1 }"))) == [
        ("f", "must be at least 1 characters long, not 0")
    ]


def test_an_optional_field_is_checked_when_it_is_set_even_to_zero():
    message_type = message(field("optional string", "string { min_len: 1 }"))
    assert faults(message_type) == []
    assert faults(message_type, f="")
    assert faults(message_type, f="a") == []


def test_required_is_not_zero_where_nothing_tells_zero_from_missing():
    message_type = message(field("int32", "required: true int32 { lt: 5 }"))
    assert faults(message_type) == faults(message_type, f=0) == [("f", "must be given")]
    assert faults(message_type, f=5) == [("f", "must be less than 5")]


def test_negative_zero_is_a_value_somebody_set():
    message_type = message(field("double", "required: true"))
    assert faults(message_type, f=0.0) == [("f", "must be given")]
    assert faults(message_type, f=-0.0) == []


def test_required_is_set_where_it_can_be_told():
    message_type = message(field("optional int32", "required: true"))
    assert faults(message_type) == [("f", "must be given")]
    assert faults(message_type, f=0) == []


@pytest.mark.parametrize("kind", ["repeated string", "google.protobuf.Timestamp"])
def test_required_lists_and_messages(kind):
    message_type = message(field(kind, "required: true"))
    assert faults(message_type) == [("f", "must be given")]
    assert faults(message_type, f=["a"] if kind == "repeated string" else Timestamp()) == []


def test_rules_may_be_ignored_for_zero_or_always():
    if_zero = message(field("string", "ignore: IGNORE_IF_ZERO_VALUE string { min_len: 2 }"))
    assert faults(if_zero) == []
    assert faults(if_zero, f="a")
    assert (
        validator_of(
            message(field("string", "ignore: IGNORE_ALWAYS required: true string { min_len: 2 }")).DESCRIPTOR
        )._rules
        == ()
    )


def test_lists():
    rules = "repeated { min_items: 2 max_items: 3 unique: true items { string { max_len: 1 } } }"
    message_type = message(field("repeated string", rules))
    assert faults(message_type, f=["a", "b"]) == []
    assert faults(message_type) == [("f", "must be 2 to 3 items long, not 0")]
    assert faults(message_type, f=["a", "a"]) == [("f", "must not have the same item twice")]
    assert faults(message_type, f=["a", "bb", "c", "dd"]) == [
        ("f", "must be 2 to 3 items long, not 4"),
        ("f[1]", "must be at most 1 characters long, not 2"),
        ("f[3]", "must be at most 1 characters long, not 2"),
    ]


def test_zero_items_may_be_ignored():
    message_type = message(
        field("repeated int32", "repeated { items { ignore: IGNORE_IF_ZERO_VALUE int32 { gt: 5 } } }")
    )
    assert faults(message_type, f=[0, 6, 1]) == [("f[2]", "must be more than 5")]


MAP = """
    nested_type {
        name: "FEntry" options { map_entry: true }
        field { name: "key" number: 1 label: LABEL_OPTIONAL type: TYPE_STRING }
        field { name: "value" number: 2 label: LABEL_OPTIONAL type: TYPE_INT32 }
    }
"""


def test_maps():
    rules = "map { max_pairs: 2 keys { string { max_len: 2 } } values { int32 { gte: 0 } } }"
    message_type = message(field("repeated PKG.M.FEntry", rules) + MAP)
    assert faults(message_type, f={"a": 1}) == []
    assert faults(message_type, f={"a": -1}) == [('f["a"]', "must be 0 or more")]
    assert faults(message_type, f={"abc": 0}) == [('f["abc"]', "its key must be at most 2 characters long, not 3")]
    assert ("f", "must be at most 2 pairs long, not 3") in faults(message_type, f={"a": 1, "b": 1, "c": 1})


def test_the_path_of_a_hostile_key_is_short_and_plain():
    message_type = message(field("repeated PKG.M.FEntry", "map { values { int32 { gt: 0 } } }") + MAP)
    ((path, _),) = faults(message_type, f={'"\r\n\0é' + "x" * 10_000: 0})
    assert len(path) < 100
    assert path.isascii()
    assert path.isprintable()


INNER = 'nested_type { name: "Inner" ' + field("int32", "int32 { gte: 0 }", name="n") + " }"


def test_messages_within_messages():
    one = message(field("PKG.M.Inner", more="type: TYPE_MESSAGE") + INNER)
    assert faults(one) == []
    assert faults(one, f={"n": -1}) == [("f.n", "must be 0 or more")]
    many = message(field("repeated PKG.M.Inner", more="type: TYPE_MESSAGE") + INNER)
    assert faults(many, f=[{"n": 0}, {"n": -1}]) == [("f[1].n", "must be 0 or more")]
    ignored = message(field("PKG.M.Inner", "ignore: IGNORE_ALWAYS", more="type: TYPE_MESSAGE") + INNER)
    assert faults(ignored, f={"n": -1}) == []


def test_a_message_that_holds_itself():
    message_type = message(
        field("PKG.M", more="type: TYPE_MESSAGE") + field("int32", "int32 { gte: 0 }", name="n", number=2)
    )
    deepest = message_type(n=-1)
    for _ in range(90):  # the parser takes no more than 100
        deepest = message_type(f=deepest)
    ((path, _),) = faults(message_type, f=deepest)
    assert path == ".".join(["f"] * 91 + ["n"])


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (field("string", 'cel { id: "x" expression: "this != \'a\'" }'), "M.f has cel"),
        (field("string", "cel_expression: \"this != 'a'\""), "M.f has cel_expression"),
        (field("string", "string { uri: true }"), "M.f has uri"),
        (field("bytes", 'bytes { pattern: "a" }'), "M.f has pattern"),
        (field("string", "string { [constrained_extension.odd]: true }"), "M.f has (constrained_extension.odd)"),
        (field("int32", "string { min_len: 1 }"), "M.f has string"),
        (field("repeated string", "string { min_len: 1 }"), "M.f has string"),
        (field("string", "repeated { min_items: 1 }"), "M.f has repeated"),
        (field("repeated string", "repeated { items { required: true } }"), "M.f (its items) has required"),
        (field("google.protobuf.Timestamp", 'any { in: "x" }'), "M.f has any"),
        (field("repeated google.protobuf.Timestamp", "repeated { unique: true }"), "M.f has unique for messages"),
        ('options { [buf.validate.message] { cel_expression: "true" } }', "M has cel_expression"),
        (field("string") + 'options { [buf.validate.message] { oneof { fields: "f" } } }', "M has oneof"),
        (field("string", 'string { pattern: "(a+)+$" }'), "M.f has the pattern"),
    ],
)
def test_what_would_not_be_enforced_is_refused(body, named):
    with pytest.raises(UnsupportedConstraintError, match=re.escape(named)):
        validator_of(message(body).DESCRIPTOR)


def test_what_the_generated_code_does_not_know_is_refused():
    rules = validate_pb2.StringRules(min_len=1)
    rules.MergeFromString(b"\x80\x7d\x01")  # field 2000, set to 1
    with pytest.raises(UnsupportedConstraintError, match=r"^M\.f has a constraint in StringRules which this program"):
        Constraints.of("M.f", rules)


def test_a_bad_constraint_in_a_nested_message_is_found_with_the_outer_one():
    inner = 'nested_type { name: "Inner" ' + field("string", "string { uri: true }", name="n") + " }"
    with pytest.raises(UnsupportedConstraintError, match=r"\.M\.Inner\.n has uri"):
        validator_of(message(field("repeated PKG.M.Inner", more="type: TYPE_MESSAGE") + inner).DESCRIPTOR)


def test_a_message_without_constraints_costs_nothing():
    assert (
        validator_of(
            message(field("PKG.M", more="type: TYPE_MESSAGE") + field("string", name="n", number=2)).DESCRIPTOR
        )
        is None
    )


def test_a_hundred_violations_are_enough():
    message_type = message(field("repeated int32", "repeated { items { int32 { gt: 0 } } }"))
    assert len(faults(message_type, f=[0] * 100_000)) == 100


def test_requests_are_found_by_the_path_of_their_method():
    assert items_service_pb2.DESCRIPTOR.services_by_name["ItemService"].full_name == ITEM_SERVICE
    assert request_validator(f"/{ITEM_SERVICE}/GetItem")
    assert request_validator(f"/{ITEM_SERVICE}/Nothing") is None
    assert request_validator("/nobody.Knows/It") is None


def service(message_type: type[Any]) -> str:
    """Make a service whose method `Do` takes and gives such messages."""
    package = f"constrained{next(_number)}"
    file = FileDescriptorProto(name=f"{package}.proto", package=package)
    file.dependency.append(message_type.DESCRIPTOR.file.name)
    name = f".{message_type.DESCRIPTOR.full_name}"
    file.service.add(name="S").method.add(name="Do", input_type=name, output_type=name)
    descriptor_pool.Default().Add(file)
    return f"{package}.S"


def test_a_server_finds_out_as_it_starts():
    check_constraints([ITEM_SERVICE, "nobody.Knows"])
    bad = service(message(field("string", "string { uri: true }")))
    with pytest.raises(UnsupportedConstraintError, match=r"\.M\.f has uri"):
        check_constraints([ITEM_SERVICE, bad])


async def test_a_method_whose_constraints_cannot_be_enforced_is_not_served():
    message_type = message(field("string", "string { uri: true }"))
    name, entered = service(message_type), []

    async def do(request, context):
        entered.append(request)
        return request

    def register(server):
        handler = grpc.unary_unary_rpc_method_handler(do, message_type.FromString, message_type.SerializeToString)
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(name, {"Do": handler})])

    async with in_process(
        register, [Chain([ErrorInterceptor(), ValidationInterceptor()])], without_policy=[name]
    ) as channel:
        call = channel.unary_unary(f"/{name}/Do", message_type.SerializeToString, message_type.FromString)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(message_type(f="x"))
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert "uri" not in caught.value.details()
    assert not entered
