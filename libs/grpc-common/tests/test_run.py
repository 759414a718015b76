"""The life of a service process, seen from outside."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

import grpc_common.application  # the child imports it
import grpc_common.http_server  # the same
import grpc_common.run  # noqa: F401  # the child imports it
import meshwork.items.v1.items_service_pb2_grpc  # noqa: F401  # the same
from grpc_common.token_maker import TokenMaker

PATIENCE = 20
ITEMS = "meshwork.items.v1.ItemService"

HTTP = {"SHOP_HTTP__ENABLED": "true", "SHOP_HTTP__PORT": "0"}

PROGRAM = """
import asyncio
import threading
import time
from contextlib import asynccontextmanager, suppress
from functools import partial
import grpc_common.run
from pydantic import SecretStr
from pydantic_settings import SettingsConfigDict
from grpc_common.run import run
from grpc_common.application import Application
from grpc_common.chain import Interceptor
from grpc_common.interceptors.deadline import DeadlineInterceptor
from grpc_common.interceptors.error import ErrorInterceptor
from grpc_common.errors import ForbiddenError
from grpc_common.settings import GRPCServerSettings, ServiceSettings
from meshwork.items.v1 import items_service_pb2 as pb
from meshwork.items.v1 import items_service_pb2_grpc as rpc


class ShopSettings(ServiceSettings):
    model_config = SettingsConfigDict(env_prefix="SHOP_")
    grpc: GRPCServerSettings = GRPCServerSettings(enabled=True, host="127.0.0.1", port=0)
    fault: str = ""
    website: bool = True
    password: SecretStr = SecretStr("")


class Items(rpc.ItemServiceServicer):
    async def GetItem(self, request, context):
        print("entered", flush=True)
        await asyncio.sleep(float(request.id))
        return pb.Item(id="done")


class Doorman(Interceptor):
    def wrap(self, method, call_next):
        async def run(call, request):
            if call.headers.get("friend") != "yes":
                raise ForbiddenError("friends only")
            return await call_next(call, request)
        return run


def with_doorman(chain):
    return chain.replace(DeadlineInterceptor).after(ErrorInterceptor, Doorman())


async def website(scope, receive, send):
    await receive()
    if scope["path"] != "/":
        print("entered", flush=True)
        await asyncio.sleep(float(scope["path"][1:]))
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
    await send({"type": "http.response.body", "body": b"done"})


async def forever():
    while True:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(60)


async def stuck(fault):
    if fault.startswith("stuck"):
        grpc_common.run.END_WITHIN = 1.0
    if fault == "stuck task":
        asyncio.get_running_loop().own = asyncio.create_task(forever(), name="the stubborn one")
    if fault == "stuck thread":
        threading.Thread(target=time.sleep, args=(60,), name="the stubborn one").start()


def arranged(fault):
    return {"chain": with_doorman} if fault == "doorman" else {}


def declare():
    from google.protobuf import descriptor_pb2, descriptor_pool
    file = descriptor_pb2.FileDescriptorProto(name="x.proto", package="x", dependency=["google/protobuf/empty.proto"])
    empty = ".google.protobuf.Empty"
    file.service.add(name="Foreign").method.add(name="Ask", input_type=empty, output_type=empty)
    descriptor_pool.Default().Add(file)


def foreign(server):
    from google.protobuf import empty_pb2
    declare()
    server.add_registered_method_handlers("x.Foreign", {})


@asynccontextmanager
async def build(settings):
    if settings.fault == "build":
        raise ConnectionError("cannot reach postgresql://shop:hunter2@db/shop")
    if settings.fault == "slow":
        print("building", flush=True)
        await asyncio.sleep(60)
    try:
        register = partial(rpc.add_ItemServiceServicer_to_server, Items())
        await stuck(settings.fault)
        if settings.fault.startswith("foreign"):
            yield Application(foreign, without_policy=["x.Foreign"] if "meant" in settings.fault else [])
            return
        yield Application(register, http=website if settings.website else None, **arranged(settings.fault))
    finally:
        if settings.fault == "stuck exit":
            await forever()
        print("left", flush=True)


run(build, ShopSettings)
"""


class Service:
    def __init__(self, process):
        self.process = process
        self.lines = []

    def line(self, event):
        """Read the log until `event`."""
        for text in self.process.stderr:
            self.lines.append(json.loads(text))
            if self.lines[-1]["event"] == event:
                return self.lines[-1]
        raise AssertionError(f"no {event!r} in {self.lines}")

    def end(self):
        """Wait for the end; return the exit status and the rest of both streams."""
        out, err = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, out, err


@pytest.fixture
def program(tmp_path):
    path = tmp_path / "shop.py"
    path.write_text(PROGRAM)
    return path


@pytest.fixture
def service(program):
    @contextmanager
    def service(**variables):
        process = subprocess.Popen(  # noqa: S603
            [sys.executable, str(program)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **variables},
        )
        # Whatever a test waits for in vain ends then.
        alarm = threading.Timer(PATIENCE, process.kill)
        alarm.start()
        try:
            yield Service(process)
        finally:
            alarm.cancel()
            process.kill()
            process.communicate()

    return service


def check(target):
    with grpc.insecure_channel(target) as channel:
        request = health_pb2.HealthCheckRequest(service=ITEMS)
        return health_pb2_grpc.HealthStub(channel).Check(request, timeout=PATIENCE, wait_for_ready=True).status


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_order(service, number):
    with service(SHOP_METRICS_PORT="0") as shop:
        serving = shop.line("serving")
        assert check(serving["target"]) == health_pb2.HealthCheckResponse.SERVING
        with urllib.request.urlopen(f"http://127.0.0.1:{serving['metrics_port']}/metrics", timeout=PATIENCE) as page:
            assert b"process_cpu_seconds_total" in page.read()
        shop.process.send_signal(number)
        status, out, err = shop.end()
        assert status == 0
        assert out == "left\n"
        said = [json.loads(line) for line in err.splitlines()]
        events = [line["event"] for line in said if line["component"] == "run"]
        assert events == ["asked to stop", "stopping", "stopped"]


def test_calls_there_are_come_to_their_end(service):
    with service() as shop, grpc.insecure_channel(shop.line("serving")["target"]) as channel:
        call = channel.unary_unary(f"/{ITEMS}/GetItem").future(b"\n\x030.5", timeout=PATIENCE)
        assert shop.process.stdout.readline() == "entered\n"
        shop.process.terminate()
        assert call.result() == b"\n\x04done"
        assert shop.end()[0] == 0


def test_a_service_without_a_policy_is_not_served(service):
    with service(SHOP_FAULT="foreign") as shop:
        failed = shop.line("cannot start")
        assert failed["reason"].startswith("/x.Foreign/Ask has no policy: give it `option (meshwork.policy.v1.policy)`")
        assert shop.end()[0] == 1


def test_unless_it_is_meant_to_be(service):
    with service(SHOP_FAULT="foreign, and meant") as shop:
        serving = shop.line("serving")
        assert "x.Foreign" in serving["services"]
        assert serving["without_policy"] == ["x.Foreign"]


def test_a_service_changes_its_chain(service):
    with service(SHOP_FAULT="doorman") as shop, grpc.insecure_channel(shop.line("serving")["target"]) as channel:
        method = channel.unary_unary(f"/{ITEMS}/GetItem")
        with pytest.raises(grpc.RpcError) as caught:
            method(b"\n\x010", timeout=PATIENCE)
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
        # The policy's cap of two seconds went with the interceptor that holds it.
        assert method(b"\n\x013", timeout=PATIENCE, metadata=[("friend", "yes")]) == b"\n\x04done"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_it_at_once(service, number):
    with service() as shop, grpc.insecure_channel(shop.line("serving")["target"]) as channel:
        call = channel.unary_unary(f"/{ITEMS}/GetItem").future(b"\n\x0260", timeout=PATIENCE)
        assert shop.process.stdout.readline() == "entered\n"
        shop.process.terminate()
        shop.line("stopping")
        shop.process.send_signal(number)
        assert shop.end()[0] == 128 + number
        assert call.code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("what", ["task", "thread", "exit"])
def test_whatever_will_not_end_does_not_keep_it(service, what):
    settings = {"SHOP_GRPC__LAME_DUCK_SECONDS": "0", "SHOP_GRPC__DRAIN_SECONDS": "0.5"}
    with service(SHOP_FAULT=f"stuck {what}", **settings) as shop:
        shop.line("serving")
        shop.process.terminate()
        status, _, err = shop.end()
        assert status == 1
        (line,) = (each for each in map(json.loads, err.splitlines()) if each["event"] == "did not end in time")
        assert line["after_seconds"] == 1.5
        named = {"task": "the stubborn one forever", "thread": "the stubborn one", "exit": "_Process.live"}[what]
        assert named in str([*line["tasks"], *line["threads"]])


def test_who_cannot_verify_a_token_serves_nobody(service, tmp_path):
    maker = TokenMaker()
    (tmp_path / "jwks.json").write_text(json.dumps(maker.jwks()))
    handler = partial(SimpleHTTPRequestHandler, directory=tmp_path)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as issuer:  # which answers once it serves
        settings = {
            "SHOP_AUTH__JWKS": f"http://127.0.0.1:{issuer.server_port}/jwks.json",
            "SHOP_AUTH__ISSUER": maker.issuer,
            "SHOP_AUTH__AUDIENCE": maker.audience,
        }
        with service(**settings) as shop:
            target = shop.line("serving")["target"]
            assert check(target) == health_pb2.HealthCheckResponse.NOT_SERVING
            serving = threading.Thread(target=issuer.serve_forever)
            serving.start()
            try:
                give_up = time.monotonic() + PATIENCE
                while check(target) != health_pb2.HealthCheckResponse.SERVING:
                    assert time.monotonic() < give_up
                    time.sleep(0.05)
            finally:
                issuer.shutdown()
                serving.join()


def test_a_signal_before_it_serves(service):
    with service(SHOP_FAULT="slow") as shop:
        assert shop.process.stdout.readline() == "building\n"
        shop.process.terminate()
        assert shop.end()[0] == 0


def test_bad_settings(service):
    with service(SHOP_FAULTT="1", SHOP_GRPC__PORT="x") as shop:
        status, _, err = shop.end()
        assert status == 2
        assert err.splitlines() == [
            "SHOP_FAULTT is not a setting of this service; did you mean SHOP_FAULT?",
            "SHOP_GRPC__PORT is not valid: input should be a valid integer, unable to parse string as an integer.",
        ]


def test_a_part_that_is_not_there(service):
    with service(SHOP_FAULT="build") as shop:
        status, _, err = shop.end()
        assert status == 1
        (line,) = (json.loads(text) for text in err.splitlines())
        assert (line["event"], line["level"]) == ("cannot start", "error")
        assert line["reason"].startswith("ConnectionError: cannot reach postgresql://shop:")
        assert "hunter2" not in err


@pytest.mark.parametrize("setting", ["SHOP_GRPC__PORT", "SHOP_METRICS_PORT", "SHOP_HTTP__PORT"])
def test_a_taken_port(service, setting):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with service(**HTTP | {setting: str(port)}) as shop:
            status, out, err = shop.end()
            assert status == 1
            assert out == "left\n"
            line = json.loads(err.splitlines()[-1])
            assert f"port {port} on 127.0.0.1 is taken by another process" in line["reason"]


def test_without_grpc_it_runs_all_the_same(service):
    with service(SHOP_GRPC__ENABLED="false") as shop:
        shop.line("started without gRPC")
        shop.process.terminate()
        assert shop.end()[0] == 0


def get(url):
    with urllib.request.urlopen(url, timeout=PATIENCE) as page:  # noqa: S310
        return page.read()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_http_beside_grpc_ends_with_it(service, number):
    with service(**HTTP) as shop:
        serving = shop.line("serving")
        assert check(serving["target"]) == health_pb2.HealthCheckResponse.SERVING
        assert get(serving["http"]) == b"done"
        shop.process.send_signal(number)
        status, out, err = shop.end()
        assert (status, out) == (0, "left\n")
        said = [json.loads(line) for line in err.splitlines()]
        assert [line["event"] for line in said if line["component"] == "run"] == [
            "asked to stop",
            "stopping",
            "stopped",
        ]
        assert {line["component"] for line in said} <= {"run", "access"}
        assert all(len(line["trace_id"]) == 32 for line in said if line["component"] == "access")


def test_requests_there_are_come_to_their_end_while_health_says_not_serving(service):
    with service(**HTTP, SHOP_GRPC__LAME_DUCK_SECONDS="5") as shop, ThreadPoolExecutor() as threads:
        serving = shop.line("serving")
        with grpc.insecure_channel(serving["target"]) as channel:
            request = health_pb2.HealthCheckRequest(service=ITEMS)
            watch = health_pb2_grpc.HealthStub(channel).Watch(request, timeout=PATIENCE)
            assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
            page = threads.submit(get, f"{serving['http']}/6")
            assert shop.process.stdout.readline() == "entered\n"
            shop.process.terminate()
            assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
            assert get(serving["http"]) == b"done"  # the lame duck still serves
            assert page.result() == b"done"
            assert shop.end()[0] == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_waits_for_no_request(service, number):
    with service(**HTTP) as shop, ThreadPoolExecutor() as threads:
        page = threads.submit(get, f"{shop.line('serving')['http']}/60")
        assert shop.process.stdout.readline() == "entered\n"
        shop.process.terminate()
        shop.line("stopping")
        shop.process.send_signal(number)
        assert shop.end()[0] == 128 + number
        with pytest.raises(ConnectionError):
            page.result()


@pytest.mark.parametrize("sent", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nhost: shop\r\n\r\n"])
def test_an_open_connection_does_not_hold_up_the_end(service, sent):
    with service(**HTTP, SHOP_GRPC__DRAIN_SECONDS="60") as shop:
        host, port = shop.line("serving")["http"].removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(sent)
            if sent.endswith(b"\r\n\r\n"):
                assert connection.recv(8) == b"HTTP/1.1"
            shop.process.terminate()
            assert shop.end()[0] == 0


def test_http_without_grpc(service):
    with service(**HTTP, SHOP_GRPC__ENABLED="false") as shop:
        assert get(shop.line("started without gRPC")["http"]) == b"done"
        shop.process.terminate()
        assert shop.end()[0] == 0


def test_http_is_there_only_when_it_is_asked_for(service):
    with service() as shop:
        assert "http" not in shop.line("serving")


def test_http_with_nothing_to_serve(service):
    with service(**HTTP, SHOP_WEBSITE="false") as shop:
        status, _, err = shop.end()
        assert status == 1
        assert "nothing to serve over HTTP" in json.loads(err.splitlines()[-1])["reason"]
