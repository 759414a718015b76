"""A call runs only for a caller whose token its method's policy accepts: tried over the wire."""

import asyncio
import logging
import traceback
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from itertools import compress, product
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, empty_pb2
from grpc import StatusCode
from grpc_health.v1 import health_pb2, health_pb2_grpc
from hypothesis import given, settings
from hypothesis import strategies as st

from grpc_common.call import Method, current_call
from grpc_common.chain import Chain, Interceptor
from grpc_common.errors import ExternalServiceError
from grpc_common.fixed_clock import FixedClock
from grpc_common.interceptors.auth import AuthInterceptor
from grpc_common.interceptors.error import ErrorInterceptor
from grpc_common.jwks import StaticJWKS
from grpc_common.jwt_service import JWTService
from grpc_common.principal import Principal, current_principal
from grpc_common.revocations import Revocations
from grpc_common.testing import in_process
from grpc_common.token_maker import TokenMaker
from grpc_common.token_verifier import Issuer, TokenVerifier
from meshwork.policy.v1 import policy_pb2

ROLES = ("admin", "editor", "viewer")
SCOPES = ("items:read", "items:write")
KINDS = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")
TOLD = "error-detail-bin"

ANONYMOUS = policy_pb2.Access(mode=policy_pb2.ACCESS_MODE_ANONYMOUS)


def subsets(names: tuple[str, ...]) -> list[tuple[str, ...]]:
    every = product((False, True), repeat=len(names))
    return [tuple(compress(names, taken)) for taken in every]


# One method for each combination of roles and scopes, one that is anonymous, one without any policy.
ACCESS: dict[str, policy_pb2.Access | None] = {
    f"R{i}S{j}": policy_pb2.Access(mode=policy_pb2.ACCESS_MODE_AUTHENTICATED, roles=roles, scopes=scopes)
    for i, roles in enumerate(subsets(ROLES))
    for j, scopes in enumerate(subsets(SCOPES))
} | {"Anonymous": ANONYMOUS, "Unsaid": None}


def declare(package: str, access: dict[str, policy_pb2.Access | None]) -> str:
    """Put a service with these methods among the descriptors of the program, as generated code does."""
    file = descriptor_pb2.FileDescriptorProto(name=f"{package}.proto", package=package, syntax="proto3")
    file.dependency.extend(["google/protobuf/empty.proto", "meshwork/policy/v1/policy.proto"])
    service = file.service.add(name="Thing")
    for name, rule in access.items():
        empty = f".{empty_pb2.Empty.DESCRIPTOR.full_name}"
        method = service.method.add(name=name, input_type=empty, output_type=empty)
        if rule is not None:
            policy = method.options.Extensions[policy_pb2.policy]
            policy.timeout.seconds = 5
            policy.access.CopyFrom(rule)
    descriptor_pool.Default().Add(file)
    return f"{package}.Thing"


THING = declare("auth.tests", ACCESS)
PLAIN = "tests.Plain"  # no descriptor, no policy: as a service that was written without either

clock = FixedClock()
maker = TokenMaker(clock=clock)
stranger = TokenMaker(maker.issuer, clock=clock)


class World:
    """A server with the auth interceptor and what its handlers saw."""

    def __init__(self, jwt_service: JWTService | None = None, **arguments: Any) -> None:
        self.revocations = Revocations(clock=clock)
        issuer = Issuer(maker.issuer, maker.audience, StaticJWKS(maker.jwks()))
        self.verifier = TokenVerifier([issuer], revocations=self.revocations, clock=clock, leeway=0.0)
        self.auth = AuthInterceptor(
            jwt_service or self.verifier, **({"revocations": self.revocations, "clock": clock} | arguments)
        )
        self.seen: list[Principal | None] = []
        self.channel: grpc.aio.Channel

    def see(self, request: bytes, context: Any) -> bytes:
        call = current_call.get()
        assert call is not None
        assert call.principal is current_principal()
        self.seen.append(current_principal())
        return request

    @asynccontextmanager
    async def serve(self, *, chain: bool = True) -> AsyncIterator["World"]:
        interceptor = Chain([ErrorInterceptor(), self.auth]) if chain else self.auth
        async with in_process(self.register, [interceptor], without_policy=[THING]) as self.channel:
            yield self

    def register(self, server: Any) -> None:
        async def unary_unary(request: bytes, context: Any) -> bytes:
            return self.see(request, context)

        async def unary_stream(request: bytes, context: Any) -> AsyncIterator[bytes]:
            yield self.see(request, context)
            yield request

        async def stream_unary(requests: AsyncIterator[bytes], context: Any) -> bytes:
            return self.see(b"".join([request async for request in requests]), context)

        async def stream_stream(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
            async for request in requests:
                yield self.see(request, context)

        handlers = {kind: getattr(grpc, f"{kind}_rpc_method_handler")(locals()[kind]) for kind in KINDS}
        thing = dict.fromkeys(ACCESS, handlers["unary_unary"])
        server.add_registered_method_handlers(THING, thing)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(THING, thing),))
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(PLAIN, handlers),))
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("grpc.reflection.v1alpha.R", handlers),))
        health_pb2_grpc.add_HealthServicer_to_server(Health(), server)

    async def call(self, path: str, *metadata: tuple[str, str | bytes], kind: str = "unary_unary") -> "Answer":
        """Call `path` with one request, or two where requests are streamed."""
        while True:
            answer = await self._call(path, metadata, kind)
            # grpc.aio's client makes up this status when it still writes to a call the server has ended.
            if "Internal error from Core" not in answer.details:
                return answer

    async def _call(self, path: str, metadata: Any, kind: str) -> "Answer":
        call = getattr(self.channel, kind)(path)
        requests = [b"a", b"b"] if kind.startswith("stream") else b"a"
        running = call(iter(requests) if isinstance(requests, list) else requests, metadata=metadata, timeout=10)
        replies: list[bytes] = []
        with suppress(grpc.aio.AioRpcError):
            replies = [reply async for reply in running] if kind.endswith("stream") else [await running]
        trailers = tuple(await running.trailing_metadata())
        return Answer(await running.code(), await running.details(), replies, trailers)

    async def as_(self, token: str, path: str, kind: str = "unary_unary") -> "Answer":
        return await self.call(path, ("authorization", f"Bearer {token}"), kind=kind)


@dataclass
class Answer:
    code: StatusCode
    details: str
    replies: list[bytes]
    trailers: tuple[Any, ...]


class Health(health_pb2_grpc.HealthServicer):
    async def Check(self, request, context):
        return health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING)


def signed(header: dict[str, Any] | None = None, **claims: Any) -> str:
    return maker.sign(maker.header() | (header or {}), maker.claims("alice", roles=ROLES, scopes=SCOPES) | claims)


GOOD = [
    lambda: maker.token("alice"),
    lambda: signed(aud=["other", maker.audience]),
    lambda: signed({"typ": "application/AT+JWT"}),
    lambda: signed(exp=clock.now + 1),
    lambda: signed(nbf=clock.now, iat=clock.now),
]
BAD = [
    lambda: stranger.token("alice"),
    lambda: signed(exp=clock.now),
    lambda: signed(exp=clock.now - 3600),
    lambda: signed(nbf=clock.now + 1),
    lambda: signed(iat=clock.now + 1),
    lambda: signed(aud="other"),
    lambda: signed(iss="https://evil.test"),
    lambda: signed(sub=""),
    lambda: signed(exp="never"),
    lambda: signed(roles="admin"),
    lambda: signed({"alg": "none"}),
    lambda: signed({"alg": "HS256"}),
    lambda: signed({"kid": "other"}),
    lambda: signed({"crit": ["exp"]}),
    lambda: signed({"typ": "id+jwt"}),
    lambda: signed({"typ": "JWT"}),
    lambda: stranger.sign(stranger.header() | {"jwk": stranger.jwk()}, stranger.claims("alice")),
    lambda: signed() + "A",
    lambda: signed()[:-1],
    lambda: signed().rpartition(".")[0] + ".",
    lambda: signed().replace(".", ".."),
    lambda: "alice",
]


def test_property_4():
    """A call is answered exactly when its token is good, and else ends as UNAUTHENTICATED; no handler sees a bad one.

    **Feature: grpc-microservices-support, Property 4: JWT Authentication Validation**
    **Feature: grpc-code-review, Property 8: JWT Validation Security**
    """
    with asyncio.Runner() as runner:
        context = World().serve()
        world = runner.run(context.__aenter__())

        @given(
            good=st.booleans(),
            which=st.integers(0, 1000),
            kind=st.sampled_from(KINDS),
            scheme=st.sampled_from(["Bearer", "bearer", "BEARER"]),
            again=st.booleans(),
        )
        @settings(max_examples=300, deadline=None)
        def check(good: bool, which: int, kind: str, scheme: str, again: bool) -> None:
            tokens = GOOD if good else BAD
            token = tokens[which % len(tokens)]()
            for _ in range(1 + again):
                world.seen.clear()
                answer = runner.run(world.call(f"/{PLAIN}/{kind}", ("authorization", f"{scheme} {token}"), kind=kind))
                if good:
                    assert answer.code is StatusCode.OK
                    assert {principal.subject for principal in world.seen} == {"alice"}
                else:
                    assert answer.code is StatusCode.UNAUTHENTICATED
                    assert not world.seen
                    assert not answer.replies
                    assert token not in answer.details + repr(answer.trailers)

        try:
            check()
        finally:
            runner.run(context.__aexit__(None, None, None))


def test_roles_and_scopes_are_what_the_policy_says():
    """R5: any of the roles and all of the scopes, over every policy there can be of them.

    **Feature: grpc-code-review, Property 9: Method-Level Authorization**
    """
    with asyncio.Runner() as runner:
        context = World().serve()
        world = runner.run(context.__aenter__())

        @given(
            method=st.sampled_from(sorted(ACCESS)),
            roles=st.frozensets(st.sampled_from([*ROLES, "Admin", "other"])) | st.none(),
            scopes=st.frozensets(st.sampled_from([*SCOPES, "items", "items:*"])),
        )
        @settings(max_examples=400, deadline=None)
        def check(method: str, roles: frozenset[str] | None, scopes: frozenset[str]) -> None:
            world.seen.clear()
            metadata = []
            if roles is not None:
                metadata = [("authorization", f"Bearer {maker.token('alice', roles=roles, scopes=scopes)}")]
            answer = runner.run(world.call(f"/{THING}/{method}", *metadata))
            access = ACCESS[method] or policy_pb2.Access()
            if access.mode == policy_pb2.ACCESS_MODE_ANONYMOUS:
                expected = StatusCode.OK
            elif roles is None:
                expected = StatusCode.UNAUTHENTICATED
            elif (access.roles and not roles & set(access.roles)) or not scopes >= set(access.scopes):
                expected = StatusCode.PERMISSION_DENIED
            else:
                expected = StatusCode.OK
            assert answer.code is expected
            assert len(world.seen) == (expected is StatusCode.OK)

        try:
            check()
        finally:
            runner.run(context.__aexit__(None, None, None))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("metadata", "reason", "details"),
    [
        ([], "missing", "this method needs a token: send the metadata `authorization: Bearer <token>`"),
        ([("authorization", "")], "malformed", "the metadata authorization is not `Bearer <token>`"),
        ([("authorization", "Bearer")], "malformed", "the metadata authorization is not `Bearer <token>`"),
        ([("authorization", "Bearer ")], "malformed", "the metadata authorization is not `Bearer <token>`"),
        ([("authorization", "Basic YTpi")], "malformed", "the metadata authorization is not `Bearer <token>`"),
        ([("authorization", maker.token())], "malformed", "the metadata authorization is not `Bearer <token>`"),
        ([("authorization", "Bearer a b")], "malformed", "the token is malformed"),
        ([("authorization", "Bearer alice")], "malformed", "the token is malformed"),
        ([("authorization", f"Bearer {maker.token()}, Bearer {maker.token()}")], "malformed", "the token is malformed"),
        (
            [("authorization", f"Bearer {maker.token()}"), ("authorization", f"Bearer {maker.token()}")],
            "malformed",
            "there is more than one authorization in the metadata",
        ),
        ([("authorization-bin", maker.token().encode())], "missing", None),
        ([("x-authorization", f"Bearer {maker.token()}")], "missing", None),
        ([("authorization", f"Bearer {maker.token(lifetime=-1)}")], "expired", "token expired"),
        ([("authorization", f"Bearer {stranger.token()}")], "not_accepted", "the token's signature is not accepted"),
    ],
)
async def test_a_caller_without_a_good_token_is_told_why(kind, metadata, reason, details):
    async with World().serve() as world:
        answer = await world.call(f"/{PLAIN}/{kind}", *metadata, kind=kind)
    assert answer.code is StatusCode.UNAUTHENTICATED
    assert details is None or answer.details == details
    assert reason in repr(answer.trailers)
    assert not world.seen
    assert not answer.replies


async def test_spaces_around_the_token_do_not_matter():
    async with World().serve() as world:
        answer = await world.call(f"/{PLAIN}/unary_unary", ("authorization", f"bEaReR   {maker.token()} "))
        assert answer.code is StatusCode.OK


async def test_who_is_missing_a_role_is_told_which():
    async with World().serve() as world:
        answer = await world.as_(maker.token(roles=["other"]), f"/{THING}/R6S0")
        assert (answer.code, answer.details) == (
            StatusCode.PERMISSION_DENIED,
            f"/{THING}/R6S0 needs one of the roles admin, editor",
        )
        answer = await world.as_(maker.token(scopes=["items:read"]), f"/{THING}/R0S3")
        assert answer.details == f"/{THING}/R0S3 needs the scope items:read items:write"


async def test_a_token_that_allows_too_little_is_told_so_as_http_has_it():
    """RFC 6750 §3: whoever sends no token that is enough is challenged, also with a 403."""
    async with World().serve() as world:
        for method, needed in (("R6S0", ""), ("R0S3", ', scope="items:read items:write"')):
            answer = await world.as_(maker.token(roles=["other"]), f"/{THING}/{method}")
            challenge = f'Bearer realm="meshwork", error="insufficient_scope"{needed}'
            assert dict(answer.trailers)["www-authenticate"] == challenge


class TestMethodsWithoutAPolicy:
    async def test_they_need_a_token(self):
        async with World().serve() as world:
            for path in (f"/{THING}/Unsaid", f"/{PLAIN}/unary_unary", "/grpc.reflection.v1alpha.R/unary_unary"):
                assert (await world.call(path)).code is StatusCode.UNAUTHENTICATED
                assert (await world.as_(maker.token(), path)).code is StatusCode.OK

    async def test_excluded_ones_need_none(self):
        excluded = {f"/{PLAIN}/unary_unary", "/grpc.reflection.v1alpha.R/"}
        async with World(excluded_methods=excluded).serve() as world:
            assert (await world.call(f"/{PLAIN}/unary_unary")).code is StatusCode.OK
            for kind in KINDS:
                assert (await world.call(f"/grpc.reflection.v1alpha.R/{kind}", kind=kind)).code is StatusCode.OK
            assert set(world.seen) == {None}
            answer = await world.call(f"/{PLAIN}/unary_stream", kind="unary_stream")
            assert answer.code is StatusCode.UNAUTHENTICATED

    async def test_a_policy_counts_more_than_an_exclusion(self):
        async with World(excluded_methods={f"/{THING}/R0S0", f"/{THING}/"}).serve() as world:
            assert (await world.call(f"/{THING}/R0S0")).code is StatusCode.UNAUTHENTICATED
            assert (await world.call(f"/{THING}/Unsaid")).code is StatusCode.OK

    async def test_health_checks_need_none(self):
        async with World().serve() as world:
            stub = health_pb2_grpc.HealthStub(world.channel)
            answer = await stub.Check(health_pb2.HealthCheckRequest(), metadata=[("authorization", "Bearer rubbish")])
            assert answer.status == health_pb2.HealthCheckResponse.SERVING

    async def test_one_that_is_not_there_is_not_there(self):
        async with World().serve() as world:
            assert (await world.call("/tests.Plain/None")).code is StatusCode.UNIMPLEMENTED

    @pytest.mark.parametrize("path", ["", "Check", "tests.Plain/unary_unary", "/tests.Plain", "/a/b/c"])
    def test_an_exclusion_that_excludes_nothing_is_refused(self, path):
        with pytest.raises(ValueError, match="is not like"):
            AuthInterceptor(World().verifier, {path})


async def test_an_anonymous_method_costs_nothing():
    async def call_next(call, request):
        return request

    method = Method(f"/{THING}/Anonymous", THING, "Anonymous", request_streaming=False, response_streaming=False)
    method = replace(method, policy=Method.of(method.path, grpc.unary_unary_rpc_method_handler(call_next)).policy)
    assert World().auth.wrap(method, call_next) is call_next


@pytest.mark.parametrize("kind", KINDS)
async def test_alone_it_refuses_too(kind):
    async with World().serve(chain=False) as world:
        answer = await world.as_(maker.token(), f"/{PLAIN}/{kind}", kind)
        assert answer.code is StatusCode.OK
        assert {principal.subject for principal in world.seen} == {"alice"}
        world.seen.clear()
        assert (await world.as_(stranger.token(), f"/{PLAIN}/{kind}", kind)).code is not StatusCode.OK
        assert not world.seen


async def test_nobody_is_known_outside_of_a_call():
    assert current_principal() is None


class Unreachable:
    """An issuer's keys that cannot be had."""

    async def find(self, kid, algorithm):
        raise ExternalServiceError("the keys that tokens are verified with are not available")


async def test_without_keys_the_service_is_unavailable_and_nobody_is_logged_out():
    verifier = TokenVerifier([Issuer(maker.issuer, maker.audience, Unreachable())], clock=clock)
    async with World(verifier).serve() as world:
        assert (await world.as_(maker.token(), f"/{PLAIN}/unary_unary")).code is StatusCode.UNAVAILABLE
        assert (await world.as_("rubbish", f"/{PLAIN}/unary_unary")).code is StatusCode.UNAUTHENTICATED


class Keep(Interceptor):
    """Keeps what calls fail with."""

    def __init__(self) -> None:
        self.errors: list[BaseException] = []

    def wrap(self, method, call_next):
        async def run(call, request):
            try:
                return await call_next(call, request)
            except BaseException as error:
                self.errors.append(error)
                raise

        return run


@pytest.mark.parametrize("kind", ["unary_unary", "unary_stream"])
async def test_no_token_is_in_what_may_be_logged(kind, caplog, capfd):
    """Neither messages, nor tracebacks with the local variables of every frame while a handler runs."""

    class Broken(World):
        def see(self, request, context):
            raise RuntimeError("a fault of the handler")

    caplog.set_level(logging.DEBUG)
    keep, world = Keep(), Broken()
    tokens = [maker.token(), maker.token(), stranger.token(), maker.token(lifetime=-1), maker.token()[:-1]]
    async with in_process(
        world.register, [Chain([ErrorInterceptor(), keep, world.auth])], without_policy=[THING]
    ) as world.channel:
        for token in [*tokens, tokens[0]]:
            assert (await world.as_(token, f"/{PLAIN}/{kind}", kind)).code is not StatusCode.OK
    shown = caplog.text + "".join(capfd.readouterr())
    shown += "".join(map(repr, world.verifier._verified.values()))
    for error in keep.errors:
        lines = traceback.TracebackException.from_exception(error, capture_locals=isinstance(error, RuntimeError))
        shown += "".join(lines.format())
    assert len(keep.errors) == len(tokens) + 1
    for token in tokens:
        for part in token.split(".")[1:]:  # all tokens have the same header
            assert part not in shown


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110  # what is waited for is out of the test's hands
            await asyncio.sleep(0.005)


class Streams(World):
    """A server whose streams do not end by themselves."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.ended: list[str] = []
        self.opened = 0
        self.leave = asyncio.Event()

    def register(self, server: Any) -> None:
        async def unary_stream(request: bytes, context: Any) -> AsyncIterator[bytes]:
            self.opened += 1
            try:
                yield b"first"
                if request == b"done":
                    return
                if request == b"timeout":
                    raise TimeoutError
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                self.ended.append("cancelled")
                if request == b"swallow":
                    return
                raise
            finally:
                self.ended.append("over")

        async def stream_unary(requests: AsyncIterator[bytes], context: Any) -> bytes:
            self.opened += 1
            try:
                return b"".join([request async for request in requests])
            finally:
                self.ended.append("over")

        async def stream_stream(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
            self.opened += 1
            try:
                async for request in requests:
                    yield request
            finally:
                self.ended.append("over")

        async def writer(request: bytes, context: Any) -> None:
            self.opened += 1
            try:
                while True:
                    await context.write(b"x" * 10_000)
            finally:
                self.ended.append("over")

        async def reader(request: Any, context: Any) -> bytes:
            self.opened += 1
            try:
                while await context.read() is not grpc.aio.EOF:
                    pass
            finally:
                self.ended.append("over")
            return b""

        handlers = {
            "unary_stream": grpc.unary_stream_rpc_method_handler(unary_stream),
            "stream_unary": grpc.stream_unary_rpc_method_handler(stream_unary),
            "stream_stream": grpc.stream_stream_rpc_method_handler(stream_stream),
            "writer": grpc.unary_stream_rpc_method_handler(writer),
            "reader": grpc.stream_unary_rpc_method_handler(reader),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(PLAIN, handlers),))

    def open(self, token: str, name: str, request: bytes = b"") -> Any:
        kind = {"writer": "unary_stream", "reader": "stream_unary"}.get(name, name)
        metadata = [("authorization", f"Bearer {token}")]
        call = getattr(self.channel, kind)(f"/{PLAIN}/{name}")
        if kind.startswith("stream"):

            async def never_ending():
                yield b"a"
                await self.leave.wait()

            return call(never_ending(), metadata=metadata, timeout=10)
        return call(request, metadata=metadata, timeout=10)


class TestOpenStreams:
    """A stream lasts as long as the token it was opened with."""

    NAMES = ("unary_stream", "stream_unary", "stream_stream", "reader", "writer")

    @staticmethod
    async def end_of(call: Any) -> tuple[StatusCode, str]:
        with suppress(grpc.aio.AioRpcError):
            if hasattr(call, "__aiter__"):
                async for _ in call:
                    pass
            else:
                await call
        return await call.code(), await call.details()

    @pytest.mark.parametrize("name", NAMES)
    async def test_it_ends_when_the_token_expires(self, name):
        before = asyncio.all_tasks()
        async with Streams().serve() as world:
            loop = asyncio.get_running_loop()
            begin = loop.time()
            ended = await self.end_of(world.open(maker.token(lifetime=0.3), name))
            assert ended == (StatusCode.UNAUTHENTICATED, "token expired")
            assert 0.25 < loop.time() - begin < 5
            assert "over" in world.ended
            assert not world.revocations._watches
            world.leave.set()
        await until(lambda: asyncio.all_tasks() <= before)

    @pytest.mark.parametrize("name", NAMES)
    async def test_it_ends_when_the_token_is_revoked(self, name):
        async with Streams().serve() as world:
            claims = maker.claims("alice")
            revoked = world.open(maker.sign(maker.header(), claims), name)
            other = world.open(maker.token(lifetime=10), name)
            await until(lambda: world.opened == 2)
            world.revocations.revoke(claims["jti"])
            assert await self.end_of(revoked) == (StatusCode.UNAUTHENTICATED, "token revoked")
            answer = await self.end_of(world.open(maker.sign(maker.header(), claims), name))
            assert answer == (StatusCode.UNAUTHENTICATED, "token revoked")
            # Its end would have come before that answer, which came after it by the same connection.
            assert not other.done()
            assert world.ended.count("over") == 1
            other.cancel()

    @pytest.mark.parametrize("name", NAMES)
    async def test_it_ends_when_its_session_is_revoked(self, name):
        async with Streams().serve() as world:
            phone = [world.open(maker.token(session="phone"), name) for _ in range(2)]  # a token each
            laptop = world.open(maker.token(session="laptop", lifetime=10), name)
            await until(lambda: world.opened == 3)
            world.revocations.revoke("phone")
            for call in phone:
                assert await self.end_of(call) == (StatusCode.UNAUTHENTICATED, "token revoked")
            answer = await self.end_of(world.open(maker.token(session="phone"), name))
            assert answer == (StatusCode.UNAUTHENTICATED, "token revoked")
            assert not laptop.done()  # as above
            assert world.ended.count("over") == 2
            laptop.cancel()

    async def test_one_token_may_have_many_streams(self):
        async with Streams().serve() as world:
            claims = maker.claims("alice")
            calls = [world.open(maker.sign(maker.header(), claims), "unary_stream") for _ in range(20)]
            await until(lambda: world.opened == 20)
            world.revocations.revoke(claims["jti"])
            ends = await asyncio.gather(*map(self.end_of, calls))
            assert {code for code, _ in ends} == {StatusCode.UNAUTHENTICATED}

    async def test_one_in_time_is_left_alone(self):
        async with Streams().serve() as world:
            call = world.open(maker.token(lifetime=3), "unary_stream", b"done")
            assert await self.end_of(call) == (StatusCode.OK, "")
            await asyncio.sleep(3.5)
            assert world.ended == ["over"]

    async def test_a_timeout_of_the_handler_is_its_own(self):
        async with Streams().serve() as world:
            code, _ = await self.end_of(world.open(maker.token(), "unary_stream", b"timeout"))
            assert code is StatusCode.DEADLINE_EXCEEDED

    async def test_one_cut_short_never_looks_complete(self):
        async with Streams().serve() as world:
            call = world.open(maker.token(lifetime=0.2), "unary_stream", b"swallow")
            assert await self.end_of(call) == (StatusCode.UNAUTHENTICATED, "token expired")
            assert world.ended == ["cancelled", "over"]

    async def test_a_client_that_leaves_is_a_client_that_leaves(self):
        async with Streams().serve() as world:
            call = world.open(maker.token(), "unary_stream")
            await call.read()
            call.cancel()
            await until(lambda: "over" in world.ended)
            assert world.ended == ["cancelled", "over"]
            assert not world.revocations._watches

    async def test_a_client_that_does_not_read_holds_no_handler(self):
        async with Streams().serve() as world:
            call = world.open(maker.token(lifetime=0.3), "writer")
            await until(lambda: world.opened == 1)
            await until(lambda: "over" in world.ended)
            assert await self.end_of(call) == (StatusCode.UNAUTHENTICATED, "token expired")

    async def test_a_unary_call_is_not_cut(self):
        class Slow(World):
            async def later(self, request, context):
                await asyncio.sleep(0.4)
                return request

            def register(self, server):
                handlers = {"unary_unary": grpc.unary_unary_rpc_method_handler(self.later)}
                server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(PLAIN, handlers),))

        async with Slow().serve() as world:
            assert (await world.as_(maker.token(lifetime=0.2), f"/{PLAIN}/unary_unary")).code is StatusCode.OK
