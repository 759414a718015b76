"""Policies: every method has one, a service's default is merged in, and a bad one is refused with a sentence."""

import importlib
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.descriptor import FieldDescriptor

import meshwork
from grpc_common.policy import LONGEST, Access, PolicyError, Retry, method_policy, policy_of, service_policies
from meshwork.policy.v1 import policy_pb2
from meshwork.policy.v1.policy_pb2 import Access as AccessOption
from meshwork.policy.v1.policy_pb2 import Backoff, Policy, Rate
from meshwork.policy.v1.policy_pb2 import Retry as RetryOption

SERVICES = [
    service
    for root in map(Path, meshwork.__path__)
    for path in sorted(root.rglob("*_pb2.py"))
    for service in importlib.import_module(
        ".".join(("meshwork", *path.relative_to(root).with_suffix("").parts))
    ).DESCRIPTOR.services_by_name.values()
]
"""Every generated one: a new one needs no line here."""
AUTHENTICATED = AccessOption(mode=policy_pb2.ACCESS_MODE_AUTHENTICATED)
ANONYMOUS = AccessOption(mode=policy_pb2.ACCESS_MODE_ANONYMOUS)
IDEMPOTENT = descriptor_pb2.MethodOptions.IDEMPOTENT


def timeout(seconds=5):
    return {"timeout": {"seconds": seconds}}


def method(policy=None, default=None, level=None, fields=()):
    """Build a service with one method in a pool of its own."""
    file = descriptor_pb2.FileDescriptorProto(name="shop.proto", package="shop", syntax="proto3")
    request = file.message_type.add(name="BuyRequest")
    for number, name in enumerate(fields, 1):
        request.field.add(
            name=name, number=number, type=FieldDescriptor.TYPE_STRING, label=FieldDescriptor.LABEL_OPTIONAL
        )
    service = file.service.add(name="Shop")
    if default is not None:
        service.options.Extensions[policy_pb2.default_policy].CopyFrom(default)
    buy = service.method.add(name="Buy", input_type=".shop.BuyRequest", output_type=".shop.BuyRequest")
    if level is not None:
        buy.options.idempotency_level = level
    if policy is not None:
        buy.options.Extensions[policy_pb2.policy].CopyFrom(policy)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return pool.FindServiceByName("shop.Shop").methods_by_name["Buy"]


def test_they_are_found():
    assert {service.name for service in SERVICES} >= {"AuthService", "ItemService"}


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.full_name)
def test_every_method_of_every_service_has_a_valid_policy(service):
    policies = service_policies(service)
    assert len(policies) == len(service.methods)
    assert all(policy.callers for policy in policies.values())


def test_what_a_policy_says():
    policy = policy_of("/meshwork.items.v1.ItemService/GetItem")
    assert policy.timeout == 2
    assert policy.retry == Retry("client", 4, ("UNAVAILABLE",), 0.1, 1.0)
    assert policy.access == Access(anonymous=False, roles=(), scopes=())
    assert policy.callers == ("ingress",)
    assert policy.idempotency == "NO_SIDE_EFFECTS"
    assert policy.priority == "INTERACTIVE"
    assert not policy.response_streaming


def test_the_method_wins_over_the_service():
    default = Policy(access=AccessOption(mode=AUTHENTICATED.mode, roles=["reader"]), callers=["a"], **timeout(9))
    merged = method_policy(method(Policy(access=AccessOption(roles=["editor"]), callers=["b", "c"]), default))
    assert merged.timeout == 9
    assert merged.access == Access(anonymous=False, roles=("editor",), scopes=())
    assert merged.callers == ("b", "c")


def test_each_list_of_the_method_replaces_that_of_the_service_and_leaves_the_others():
    access = AccessOption(mode=AUTHENTICATED.mode, roles=["reader"], scopes=["items:read"])
    retry = RetryOption(owner=policy_pb2.RETRY_OWNER_CLIENT, max_attempts=3, codes=["UNAVAILABLE"])
    default = Policy(access=access, callers=["a"], retry=retry, **timeout())

    def merged(**own):
        return method_policy(method(Policy(**own), default, IDEMPOTENT))

    assert merged(access=AccessOption(scopes=["items:write"])).access == Access(
        anonymous=False, roles=("reader",), scopes=("items:write",)
    )
    assert merged(access=AccessOption(roles=["editor"])).access.scopes == ("items:read",)
    assert merged(retry=RetryOption(codes=["ABORTED"])).retry.codes == ("ABORTED",)
    assert merged(retry=RetryOption(max_attempts=4)).retry == Retry("client", 4, ("UNAVAILABLE",), 0.1, 1.0)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"per_second": 0.2}, (0.2, 1)),  # never so few that nobody gets through
        ({"per_second": 7.6}, (7.6, 8)),
        ({"per_second": 7.6, "burst": 2}, (7.6, 2)),
    ],
)
def test_a_rate_without_a_burst_lets_a_second_of_calls_through_at_once(given, expected):
    rate = method_policy(method(Policy(access=ANONYMOUS, rate=Rate(**given), **timeout()))).rate
    assert (rate.per_second, rate.burst) == expected


def test_the_bounds_themselves_are_taken():
    year = {"seconds": int(LONGEST)}
    for attempts in (2, 5):
        backoff = Backoff(initial={"seconds": 1}, max={"seconds": 1})
        retry = method_policy(method(retried(max_attempts=attempts, backoff=backoff), level=IDEMPOTENT)).retry
        assert (retry.max_attempts, retry.initial, retry.max) == (attempts, 1, 1)
    retry = method_policy(method(retried(backoff=Backoff(max=year)), level=IDEMPOTENT)).retry
    assert retry.max == LONGEST
    assert method_policy(method(Policy(access=ANONYMOUS, timeout=year))).timeout == LONGEST
    once = Policy(access=ANONYMOUS, retry=RetryOption(max_attempts=1), **timeout())
    assert method_policy(method(once)).retry is None


@pytest.mark.parametrize("path", ["/no.such.Service/Method", "/meshwork.items.v1.ItemService/No", "", "/", "x"])
def test_a_method_nobody_knows_has_no_policy(path):
    assert policy_of(path) is None


def test_a_request_id_makes_a_write_repeatable():
    retry = RetryOption(owner=policy_pb2.RETRY_OWNER_CLIENT, max_attempts=3)
    policy = Policy(access=AUTHENTICATED, retry=retry, **timeout())
    assert method_policy(method(policy, fields=["request_id"])).retry.max_attempts == 3


def retried(**changes):
    retry = RetryOption(**({"owner": policy_pb2.RETRY_OWNER_CLIENT, "max_attempts": 3} | changes))
    return Policy(access=AUTHENTICATED, retry=retry, **timeout())


def asked(kind=FieldDescriptor.TYPE_STRING, **changes):
    """Build a method that the client repeats, with a request_id of that kind."""
    built = descriptor_pb2.FieldDescriptorProto(
        name="request_id", number=1, type=kind, label=FieldDescriptor.LABEL_OPTIONAL
    )
    for name, value in changes.items():
        setattr(built, name, value)
    file = descriptor_pb2.FileDescriptorProto(name="asked.proto", package="asked", syntax="proto3")
    request = file.message_type.add(name="Request")
    request.field.append(built)
    if built.HasField("oneof_index"):
        request.oneof_decl.add(name="choice")
        if not built.proto3_optional:
            request.field.add(name="other", number=2, type=kind, label=FieldDescriptor.LABEL_OPTIONAL, oneof_index=0)
    method = file.service.add(name="S").method.add(name="M", input_type=".asked.Request", output_type=".asked.Request")
    method.options.Extensions[policy_pb2.policy].CopyFrom(retried())
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return pool.FindServiceByName("asked.S").methods_by_name["M"]


@pytest.mark.parametrize("presence", [{}, {"proto3_optional": True, "oneof_index": 0}])
def test_a_request_id_is_a_string(presence):
    policy = method_policy(asked(**presence))
    assert policy.retry.max_attempts == 3
    assert policy.by_request_id


@pytest.mark.parametrize(
    "field",
    [
        {"kind": FieldDescriptor.TYPE_BYTES},
        {"kind": FieldDescriptor.TYPE_INT64},
        {"label": FieldDescriptor.LABEL_REPEATED},
        {"oneof_index": 0},
    ],
)
def test_what_cannot_be_filled_in_makes_no_write_repeatable(field):
    with pytest.raises(PolicyError, match="has no string request_id"):
        method_policy(asked(**field))


def test_the_mesh_does_not_repeat_what_only_a_request_id_makes_safe():
    policy = retried(owner=policy_pb2.RETRY_OWNER_MESH)
    with pytest.raises(PolicyError, match="the mesh, which cannot fill a request_id"):
        method_policy(method(policy, fields=["request_id"]))
    assert method_policy(method(policy, fields=["request_id"], level=IDEMPOTENT)).retry.owner == "mesh"
    assert not method_policy(method(policy, fields=["request_id"], level=IDEMPOTENT)).by_request_id


BAD = {
    "no policy": (None, "has no policy"),
    "no timeout": (Policy(access=AUTHENTICATED), "has no timeout"),
    "a timeout below 0": (Policy(access=AUTHENTICATED, **timeout(-1)), "has no timeout"),
    "a timeout of centuries": (Policy(access=AUTHENTICATED, **timeout(10**10)), "at most a year"),
    "no access": (Policy(**timeout()), "has no access mode"),
    "roles of nobody": (Policy(access=AccessOption(mode=ANONYMOUS.mode, roles=["a"]), **timeout()), "is anonymous"),
    "a caller twice": (Policy(access=ANONYMOUS, callers=["a", "a"], **timeout()), "twice"),
    "an empty role": (Policy(access=AccessOption(mode=AUTHENTICATED.mode, roles=[""]), **timeout()), "empty role"),
    "one attempt": (retried(max_attempts=1), "max_attempts 1"),
    "six attempts": (retried(max_attempts=6), "max_attempts 6"),
    "attempts of nobody": (retried(owner=policy_pb2.RETRY_OWNER_NONE), "no retry owner"),
    "an unknown status": (retried(codes=["UNAVAILIBLE"]), "'UNAVAILIBLE'"),
    "retry on success": (retried(codes=["OK"]), "'OK'"),
    "a shrinking backoff": (retried(backoff=Backoff(initial={"seconds": 2}, max={"seconds": 1})), "backoff"),
    "two attempts of nobody": (retried(owner=policy_pb2.RETRY_OWNER_NONE, max_attempts=2), "no retry owner"),
    "a backoff from nothing": (retried(backoff=Backoff(initial={})), "above 0"),
    "an empty scope": (Policy(access=AccessOption(mode=AUTHENTICATED.mode, scopes=[" "]), **timeout()), "empty scope"),
    "a scope twice": (
        Policy(access=AccessOption(mode=AUTHENTICATED.mode, scopes=["a"] * 2), **timeout()),
        "Buy.*scope",
    ),
    "an endless rate": (Policy(access=ANONYMOUS, rate=Rate(per_second=float("inf")), **timeout()), "rate"),
    "a rate that is no number": (Policy(access=ANONYMOUS, rate=Rate(per_second=float("nan")), **timeout()), "rate"),
    "no rate": (Policy(access=ANONYMOUS, rate=Rate(per_second=0), **timeout()), "rate"),
}


@pytest.mark.parametrize(("policy", "sentence"), BAD.values(), ids=BAD)
def test_a_bad_policy_is_refused(policy, sentence):
    with pytest.raises(PolicyError, match=sentence) as caught:
        method_policy(method(policy, level=IDEMPOTENT))
    assert "/shop.Shop/Buy" in str(caught.value)


def test_a_write_is_not_retried():
    with pytest.raises(PolicyError, match="could do the work twice"):
        method_policy(method(retried()))


def test_a_default_alone_is_no_policy():
    with pytest.raises(PolicyError, match="has no policy"):
        method_policy(method(None, default=Policy(access=ANONYMOUS, **timeout())))


def test_a_duration_of_its_own_replaces_the_whole_default():
    """The seconds of one and the nanos of the other would be a third."""
    retry = {"owner": policy_pb2.RETRY_OWNER_CLIENT, "max_attempts": 2}
    pauses = {"initial": {"seconds": 1}, "max": {"seconds": 9}}
    default = Policy(access=ANONYMOUS, timeout={"seconds": 3}, retry=RetryOption(**retry, backoff=Backoff(**pauses)))
    short = Backoff(initial={"nanos": 100_000_000}, max={"nanos": 200_000_000})
    own = Policy(timeout={"nanos": 500_000_000}, retry=RetryOption(backoff=short))
    policy = method_policy(method(own, default, IDEMPOTENT))
    assert (policy.timeout, policy.retry.initial, policy.retry.max) == (0.5, 0.1, 0.2)
