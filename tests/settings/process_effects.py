"""What the settings of a whole process do, seen from outside."""

import asyncio
import base64
import json
import os
import signal
import sys
import time
import urllib.error
import urllib.request
from contextlib import asynccontextmanager, suppress

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

import shop  # noqa: F401  # the process is one of it
from effects import shows
from grpc_common.http_settings import HTTPServerSettings
from grpc_common.revocation_stream import KEY, RevocationStream
from grpc_common.settings import AuthSettings, GRPCServerSettings, ServiceSettings
from grpc_common.token_maker import TokenMaker
from localmesh import ports
from localmesh.parts.valkey import Valkey
from meshwork.items.v1 import items_service_pb2 as pb
from meshwork.items.v1 import items_service_pb2_grpc as rpc

PATIENCE = 30.0


class Shop:
    """The process, and what it said."""

    def __init__(self, process):
        self.process = process
        self.lines = []
        self.where = {}

    @property
    def target(self):
        return self.where["target"]

    async def until(self, event):
        """Read the log until that; return the line."""
        async with asyncio.timeout(PATIENCE):
            while text := await self.process.stderr.readline():
                self.lines.append(json.loads(text))
                if self.lines[-1]["event"] == event:
                    return self.lines[-1]
        raise AssertionError(f"no {event!r} in {self.lines}")

    async def get(self, item, metadata=()):
        """Ask for an item; return the status and the item."""
        async with grpc.aio.insecure_channel(self.target) as channel:
            call = rpc.ItemServiceStub(channel).GetItem(pb.GetItemRequest(id=item), metadata=metadata, timeout=4.5)
            reply = None
            with suppress(grpc.aio.AioRpcError):
                reply = await call
            return await call.code(), reply

    async def end(self, number=signal.SIGTERM):
        """Have it end; return the exit status and all the lines of its log."""
        with suppress(ProcessLookupError):
            self.process.send_signal(number)
        _, rest = await asyncio.wait_for(self.process.communicate(), PATIENCE)
        self.lines += [json.loads(line) for line in rest.splitlines()]
        return self.process.returncode, self.lines


@asynccontextmanager
async def running(folder, serving="serving", **settings):
    """The process, once it serves; settings are those of the environment without SHOP_."""
    environment = {"PATH": os.defpath, "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "shop",
        cwd=folder,
        env=environment | {f"SHOP_{name}": value for name, value in settings.items()},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    started = Shop(process)
    try:
        if serving:
            started.where = await started.until(serving)
        yield started
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@shows(GRPCServerSettings, "enabled")
async def grpc_enabled(folder):
    async with running(folder, GRPC__ENABLED="true") as on:
        assert (await on.get("0"))[0] is grpc.StatusCode.OK
    async with running(folder, "started without gRPC", GRPC__ENABLED="false") as off:
        assert "target" not in off.where


@shows(GRPCServerSettings, "drain_seconds")
async def drain_seconds(folder):
    for seconds, expected in (("0.2", False), ("30", True)):
        async with running(folder, GRPC__DRAIN_SECONDS=seconds) as process:
            call = asyncio.ensure_future(process.get("1.5"))
            await process.until("entered")
            status, _ = await process.end()
            assert status == 0
            assert ((await call)[0] is grpc.StatusCode.OK) is expected


@shows(ServiceSettings, "grpc")
async def of_grpc(folder):
    port = ports.free_port()
    async with running(folder, GRPC=json.dumps({"port": port})) as process:
        assert process.target == f"127.0.0.1:{port}"


@shows(GRPCServerSettings, "max_workers")
async def max_workers(folder):
    for workers in (2, 4):
        async with running(folder, GRPC__MAX_WORKERS=str(workers)) as process:
            _, item = await process.get("threads")
            assert item.quantity == workers


@shows(ServiceSettings, "http")
@shows(HTTPServerSettings, "enabled")
async def http_enabled(folder):
    async with running(folder, HTTP__ENABLED="true", HTTP__PORT="0") as on:
        assert (await asyncio.to_thread(read, on.where["http"]))[0] == b"done"
    async with running(folder, HTTP__ENABLED="false", HTTP__PORT="0") as off:
        assert "http" not in off.where


def read(url):
    with urllib.request.urlopen(url, timeout=PATIENCE) as reply:  # noqa: S310
        return reply.read(), reply


@shows(ServiceSettings, "log_level")
async def log_level(folder):
    for level, expected in (("info", {"serving", "call", "stopped"}), ("error", set())):
        port = ports.free_port()
        async with running(folder, "", LOG_LEVEL=level, GRPC__PORT=str(port)) as process:
            process.where = {"target": f"127.0.0.1:{port}"}
            async with asyncio.timeout(PATIENCE):
                while (await process.get("0"))[0] is not grpc.StatusCode.OK:  # noqa: ASYNC110
                    await asyncio.sleep(0.1)
            _, lines = await process.end()
        assert expected <= {line["event"] for line in lines if line["level"] == "info"}
        assert bool([line for line in lines if line["level"] == "info"]) is bool(expected)


def trusting(folder, maker):
    path = folder / "jwks.json"
    path.write_text(json.dumps(maker.jwks()))
    return {"AUTH__JWKS": str(path), "AUTH__ISSUER": maker.issuer, "AUTH__AUDIENCE": maker.audience}


@shows(ServiceSettings, "auth")
async def auth(folder):
    maker = TokenMaker()
    async with running(folder) as open_to_all:
        assert (await open_to_all.get("0"))[0] is grpc.StatusCode.OK
    async with running(folder, **trusting(folder, maker)) as closed:
        assert (await closed.get("0"))[0] is grpc.StatusCode.UNAUTHENTICATED
        token = (("authorization", f"Bearer {maker.token('ada')}"),)
        assert (await closed.get("0", token))[0] is grpc.StatusCode.OK


@shows(ServiceSettings, "revocations_url")
async def revocations_url(folder):
    maker = TokenMaker()
    token = maker.token("ada")
    identity = json.loads(_claims(token))["jti"]
    metadata = (("authorization", f"Bearer {token}"),)
    async with Valkey(folder / "valkey", users=["shop"], writers={KEY: ("shop",)}) as valkey:
        url = valkey.url("shop")
        async with (
            running(folder, **trusting(folder, maker), REVOCATIONS_URL=url) as listens,
            running(folder, **trusting(folder, maker)) as does_not,
            RevocationStream(url) as stream,
        ):
            await stream.publish(identity, time.time() + 600)
            async with asyncio.timeout(PATIENCE):
                while (await listens.get("0", metadata))[0] is not grpc.StatusCode.UNAUTHENTICATED:  # noqa: ASYNC110
                    await asyncio.sleep(0.1)
            assert (await does_not.get("0", metadata))[0] is grpc.StatusCode.OK


def _claims(token):
    part = token.split(".")[1]
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Counts the spans it is sent."""

    def __init__(self):
        self.spans = 0

    async def Export(self, request, context):
        self.spans += sum(len(scope.spans) for given in request.resource_spans for scope in given.scope_spans)
        return trace_service_pb2.ExportTraceServiceResponse()


@shows(ServiceSettings, "otlp_endpoint", "trace_ratio")
async def spans(folder):
    for endpoint, ratio, expected in ((True, "1", 5), (True, "0", 0), (False, "1", 0)):
        collector, server = Collector(), grpc.aio.server()
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, server)
        url = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        await server.start()
        async with running(folder, OTLP_ENDPOINT=url if endpoint else "", TRACE_RATIO=ratio) as process:
            for _ in range(5):
                await process.get("0")
            await process.end()  # which sends what waits
        await server.stop(None)
        assert collector.spans == expected


@shows(ServiceSettings, "log_payloads")
async def log_payloads(folder):
    for wanted in (True, False):
        async with running(folder, LOG_PAYLOADS=str(wanted)) as process:
            await process.get("0.0125")
            _, lines = await process.end()
        assert ("0.0125" in str(lines)) is wanted


@shows(ServiceSettings, "metrics_host", "metrics_port")
async def metrics(folder):
    async with running(folder, METRICS_PORT="0", METRICS_HOST="127.0.0.3") as process:
        port = process.where["metrics_port"]
        text, _ = await asyncio.to_thread(read, f"http://127.0.0.3:{port}/metrics")
        assert b"grpc_server_started_total" in text
        with suppress(urllib.error.URLError):
            await asyncio.to_thread(read, f"http://127.0.0.1:{port}/metrics")
            raise AssertionError("it is served on another address, too")
    async with running(folder) as without:
        assert without.where["metrics_port"] is None


@shows(AuthSettings, "jwks", "issuer", "audience")
async def whose_tokens(folder):
    ours, theirs = TokenMaker(), TokenMaker()
    elsewhere = TokenMaker(issuer="https://elsewhere.test")
    elsewhere._key = ours._key
    for_others = TokenMaker(audience="others")
    for_others._key = ours._key
    async with running(folder, **trusting(folder, ours)) as process:
        statuses = []
        for maker in (ours, theirs, elsewhere, for_others):
            metadata = (("authorization", f"Bearer {maker.token('ada')}"),)
            statuses.append((await process.get("0", metadata))[0].name)
        assert statuses == ["OK", *["UNAUTHENTICATED"] * 3]


@shows(AuthSettings, "algorithms")
async def algorithms(folder):
    maker = TokenMaker(algorithm="EdDSA")
    metadata = (("authorization", f"Bearer {maker.token('ada')}"),)
    for allowed, expected in (('["EdDSA"]', "OK"), ('["ES256"]', "UNAUTHENTICATED")):
        async with running(folder, **trusting(folder, maker), AUTH__ALGORITHMS=allowed) as process:
            assert (await process.get("0", metadata))[0].name == expected


@shows(AuthSettings, "jwks_socket")
async def jwks_socket(folder):
    maker, path = TokenMaker(), folder / "keys"
    body = json.dumps(maker.jwks()).encode()
    asked = []

    async def answer(reader, writer):
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
        writer.write(head % len(body) + body)
        await writer.drain()
        writer.close()

    server = await asyncio.start_unix_server(answer, path)
    settings = {"AUTH__JWKS": "http://auth.invalid/keys", "AUTH__JWKS_SOCKET": str(path)}
    async with running(folder, **(trusting(folder, maker) | settings)) as process:
        metadata = (("authorization", f"Bearer {maker.token('ada')}"),)
        assert (await process.get("0", metadata))[0] is grpc.StatusCode.OK
    assert asked
    server.close()
