"""A real ingress in front of services that write down what reaches them, and answer as they are told."""

import json
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer
from threading import Event, Thread
from typing import Any

import grpc
import httpx
import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from localmesh import ports
from localmesh.certificates import Identity
from localmesh.envoy import program, tls
from localmesh.envoy.config import Config
from localmesh.envoy.ingress import Gate, ingress
from localmesh.testing import install_self_signed
from localmesh.topology import Topology
from localmesh.workload import Workload

READY_WITHIN = 60.0
WRITTEN_WITHIN = 30.0
STREAM_WAITS = 30.0
COLLECTOR = "opentelemetry.proto.collector.trace.v1.TraceService"
KID = "of-the-test"

type Change = Callable[[Config], Config]
type Answer = Callable[[Message, grpc.ServicerContext], Message | None]


def _unchanged(config: Config) -> Config:
    return config


@dataclass(frozen=True)
class Seen:
    """A call as the service got it."""

    path: str
    request: Message
    metadata: tuple[tuple[str, str | bytes], ...]

    def header(self, name: str) -> list[str | bytes]:
        """All values of a header."""
        return [value for key, value in self.metadata if key == name]


@dataclass
class RecordedIngress:
    """What a test asks, and what it looks at."""

    port: int
    log: Path
    certificate: Path
    key: ec.EllipticCurvePrivateKey
    topology: Topology
    calls: list[Seen] = field(default_factory=list)
    spans: list[bytes] = field(default_factory=list)
    """What the ingress has sent of its spans, in the bytes of the protocol."""
    go_on: Event = field(default_factory=Event)
    """What a stream waits for after each answer."""
    answer: Answer | None = None
    """What each method does in place of an empty answer."""

    def token(self, **claims: Any) -> str:
        """A token that passes."""
        now = int(time.time())
        said = {
            "iss": self.topology.tokens.issuer,
            "aud": self.topology.tokens.audience,
            "sub": "somebody",
            "iat": now,
            "exp": now + 600,
        }
        return jwt.encode(said | claims, self.key, algorithm="ES256", headers={"kid": KID, "typ": "at+jwt"})

    def trust(self) -> ssl.SSLContext:
        """Who is believed."""
        context = ssl.create_default_context(cafile=self.certificate)
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # one certificate is the authority and the server
        return context

    @contextmanager
    def client(self, *, token: str | None = "", **options: Any) -> Iterator[httpx.Client]:
        """HTTP, with a good token, another one, or with None none."""
        headers = {} if token is None else {"authorization": f"Bearer {token or self.token()}"}
        base = f"https://localhost:{self.port}"
        with httpx.Client(base_url=base, verify=self.trust(), headers=headers, timeout=30.0, **options) as client:
            yield client

    def line(self, answer: httpx.Response) -> dict[str, Any]:
        """What the access log says of an answer."""
        give_up = time.monotonic() + WRITTEN_WITHIN
        while time.monotonic() < give_up:
            for line in self.log.read_text().splitlines():
                if line.startswith("{") and (said := json.loads(line))["request_id"] == answer.headers["x-request-id"]:
                    return said
            time.sleep(0.1)
        raise AssertionError(f"no line of {answer.headers}")

    def span(self, answer: httpx.Response) -> bytes:
        """What was sent with the span of an answer."""
        trace_id = bytes.fromhex(answer.headers["x-trace-id"])
        give_up = time.monotonic() + WRITTEN_WITHIN
        while time.monotonic() < give_up:
            for sent in self.spans:
                if trace_id in sent:
                    return sent
            time.sleep(0.1)
        raise AssertionError(f"no span of {answer.headers}")

    def forget(self) -> None:
        """As if nothing had been called yet."""
        self.calls.clear()
        self.go_on.set()
        self.answer = None

    def serve(self, method: MethodDescriptor, request: Message, context: grpc.ServicerContext) -> Message:
        """Answer a call."""
        path = f"/{method.containing_service.full_name}/{method.name}"
        self.calls.append(Seen(path, request, tuple(context.invocation_metadata())))
        made = self.answer(request, context) if self.answer is not None else None
        return made if made is not None else GetMessageClass(method.output_type)()


@contextmanager
def recorded_ingress(
    topology: Topology,
    workloads: tuple[Workload, ...],
    folder: Path,
    *,
    ready: HTTPStatus = HTTPStatus.OK,
    change: Change = _unchanged,
) -> Iterator[RecordedIngress]:
    """An ingress that talks to the sockets of the workloads in the clear, as `--no-sidecars` has it."""
    key = ec.generate_private_key(ec.SECP256R1())
    names = ("ingress-server", "ingress")
    server, client = (Identity(name, folder / "certificates" / name) for name in names)
    for identity in (server, client):
        install_self_signed(identity)
        tls.write_secrets(identity)
    gate = Gate(
        port=ports.free_port(),
        admin_port=ports.free_port(),
        traces_port=ports.free_port(),
        server=server,
        client=client,
        sidecars=False,
    )
    recorded = RecordedIngress(gate.port, folder / "ingress.log", server.certificate, key, topology)
    servers = [_serve(workload, recorded) for workload in workloads if ready is not HTTPStatus.SERVICE_UNAVAILABLE]
    pages = [_serve_keys(workload.http_socket, key) for workload in workloads if workload.http]
    servers.append(_collect(gate.traces_port, recorded))
    config = folder / "ingress.json"
    program.write(change(ingress(topology, gate, workloads)), config)
    command = program.command("ingress", config)
    with recorded.log.open("wb") as log, subprocess.Popen(command.argv, stdout=log, stderr=log) as envoy:  # noqa: S603
        try:
            _wait(recorded, ready)
            yield recorded
        finally:
            envoy.kill()
            for each in pages:
                each.shutdown()
            for each in servers:
                each.stop(None)


def _serve(workload: Workload, recorded: RecordedIngress) -> grpc.Server:
    server = grpc.server(ThreadPoolExecutor(8))
    for service in workload.grpc:
        handlers = {each.name: _handler(each, recorded) for each in service.methods}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service.full_name, handlers),))
    health_pb2_grpc.add_HealthServicer_to_server(_Well(), server)
    reflection.enable_server_reflection([service.full_name for service in workload.grpc], server)
    server.add_insecure_port(f"unix:{workload.socket}")
    server.start()
    return server


def _collect(port: int, recorded: RecordedIngress) -> grpc.Server:
    def export(request: bytes, context: grpc.ServicerContext) -> bytes:
        recorded.spans.append(request)
        return b""

    server = grpc.server(ThreadPoolExecutor(2))
    handlers = {"Export": grpc.unary_unary_rpc_method_handler(export)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(COLLECTOR, handlers),))
    assert server.add_insecure_port(f"{ports.LOOPBACK}:{port}") == port
    server.start()
    return server


def _handler(method: MethodDescriptor, recorded: RecordedIngress) -> grpc.RpcMethodHandler:
    parse = GetMessageClass(method.input_type).FromString

    def unary(request: Message, context: grpc.ServicerContext) -> Message:
        return recorded.serve(method, request, context)

    def stream(request: Message, context: grpc.ServicerContext) -> Iterator[Message]:
        yield recorded.serve(method, request, context)
        recorded.go_on.wait(STREAM_WAITS)

    def unary_of_many(requests: Iterator[Message], context: grpc.ServicerContext) -> Message:
        return [recorded.serve(method, request, context) for request in requests][-1]

    def stream_of_many(requests: Iterator[Message], context: grpc.ServicerContext) -> Iterator[Message]:
        for request in requests:
            yield recorded.serve(method, request, context)

    write = GetMessageClass(method.output_type).SerializeToString
    match method.client_streaming, method.server_streaming:
        case False, False:
            return grpc.unary_unary_rpc_method_handler(unary, parse, write)
        case False, True:
            return grpc.unary_stream_rpc_method_handler(stream, parse, write)
        case True, False:
            return grpc.stream_unary_rpc_method_handler(unary_of_many, parse, write)
        case _:
            return grpc.stream_stream_rpc_method_handler(stream_of_many, parse, write)


class _Well(health_pb2_grpc.HealthServicer):
    def Check(self, request, context):
        return health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING)

    def Watch(self, request, context):
        yield self.Check(request, context)


class _Pages(ThreadingMixIn, UnixStreamServer):
    daemon_threads = True


def _serve_keys(socket: Path, key: ec.EllipticCurvePrivateKey) -> _Pages:
    public = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(key.public_key()))
    body = json.dumps({"keys": [public | {"kid": KID, "alg": "ES256", "use": "sig"}]}).encode()

    class Keys(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(HTTPStatus.OK)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            """How long the body is."""
            said = str(len(self.rfile.read(int(self.headers["content-length"])))).encode()
            self.send_response(HTTPStatus.OK)
            self.send_header("content-length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        def address_string(self) -> str:
            return "the ingress"

        def log_message(self, *_: object) -> None:
            pass

    server = _Pages(str(socket), Keys)
    Thread(target=server.serve_forever, daemon=True).start()
    return server


def _wait(recorded: RecordedIngress, status: HTTPStatus) -> None:
    """Until tokens are judged and calls get through."""
    give_up = time.monotonic() + READY_WITHIN
    while True:
        try:
            with recorded.client() as client:
                asked = [client.get(path) for path in ("/v1/items/ready", "/v1/users/ready")]
                if all(answer.status_code == status and "Jwks" not in answer.text for answer in asked):
                    break
        except httpx.HTTPError:
            pass
        assert time.monotonic() < give_up, recorded.log.read_text()[-5000:]
        time.sleep(0.1)
    recorded.forget()
