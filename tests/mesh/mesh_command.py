"""`./mesh` as tests run it, and what they ask a running mesh for."""

import contextlib
import json
import os
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import grpc
import httpx
import hvac
import psutil

from localmesh import ports, topology
from localmesh.ask import ask
from localmesh.failure import MeshError
from localmesh.forge import Forge
from localmesh.state import StateFolder
from meshwork.auth.v1.auth_service_pb2 import LoginRequest, TokenPair
from meshwork.auth.v1.auth_service_pb2_grpc import AuthServiceStub
from meshwork.items.v1.items_service_pb2_grpc import ItemServiceStub

TOPOLOGY = topology.IN_THE_TREE
WITHIN = 120
USED_FOR = 300.0
"""Seconds: half of what a token lives."""
BACK_WITHIN = 30.0
EDITOR = "developer.editor"


class MeshCommand:
    """`./mesh` with a state folder and an ingress port of its own."""

    def __init__(self, state: Path, described: Path = TOPOLOGY, env: Mapping[str, str] | None = None) -> None:
        self.state = state
        self.port = ports.free_port()
        self._described = described
        self.named_by = ("--state", str(state))
        """How the command is told of the folder."""
        self._env = dict(env or {})
        self._tokens: dict[tuple[str, ...], tuple[str, float]] = {}

    def start(self, *arguments: str, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        """Starts the command and returns at once."""
        folders = (*self.named_by, "--topology", str(self._described))
        return subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", "localmesh", *folders, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **self._env, **(env or {})},
        )

    def __call__(self, *arguments: str, env: Mapping[str, str] | None = None) -> tuple[int, str, str]:
        """Runs the command to its end; returns exit status, standard output, standard error."""
        with self.start(*arguments, env=env) as process:
            try:
                out, err = process.communicate(timeout=WITHIN)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        return process.returncode, out, err

    def up(self, *arguments: str) -> None:
        """Starts the mesh in the background; fails the test when it does not get ready."""
        status, out, err = self("up", "--detach", "--port", str(self.port), *arguments)
        assert status == 0, f"{out}\n{err}"

    def status(self) -> dict[str, Any]:
        """What `status --json` says."""
        return json.loads(self("status", "--json")[1])

    def supervisor(self) -> int:
        """The process that watches over the others."""
        return int((self.state / "lock").read_text().split()[0])

    def processes(self) -> list[psutil.Process]:
        """What runs on behalf of this state folder, found by its command line or its environment."""
        found = []
        ours = {os.getpid(), *(each.pid for each in psutil.Process().parents())}
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                where = " ".join([*process.cmdline(), *process.environ().values()])
                if str(self.state) in where and process.pid not in ours:
                    found.append(process)
        return found

    def left(self, seconds: float = 15.0) -> list[psutil.Process]:
        """What still runs on its behalf when all that is about to end has had so long for it."""
        give_up = time.monotonic() + seconds
        while (running := self.processes()) and time.monotonic() < give_up:
            time.sleep(0.1)
        return running

    def token(self, roles: Sequence[str] = ("editor",), *, fresh: bool = False) -> str:
        """A token of a user with these roles: one from before that will live for long, unless it must be `fresh`."""
        key = tuple(sorted(roles))
        token, since = self._tokens.get(key, ("", 0.0))
        if fresh or time.monotonic() - since > USED_FOR:
            since = time.monotonic()
            self._tokens[key] = token, _ = self._ask_for_token(key), since
        return token

    def _ask_for_token(self, roles: Sequence[str]) -> str:
        """Whatever the test has just done to auth and what it needs: it comes back."""
        give_up = time.monotonic() + BACK_WITHIN
        while True:
            try:
                (token,) = ask(StateFolder(self.state), {"token": list(roles)})
            except MeshError as error:
                if "UNAVAILABLE" not in str(error) or time.monotonic() > give_up:
                    raise
                time.sleep(0.2)
            else:
                return str(token)

    def openbao(self) -> hvac.Client:
        """OpenBao with all rights."""
        (openbao,) = [part for part in self.status()["parts"] if part["name"] == "openbao"]
        return hvac.Client(url=openbao["address"], token=(self.state / "openbao" / "root-token").read_text())

    def forge(self) -> Forge:
        """Makes tokens with the key the mesh signs with."""
        return Forge(self.openbao())

    def service(self, name: str) -> dict[str, Any]:
        """What `status --json` says of a workload."""
        (found,) = [each for each in self.status()["services"] if each["name"] == name]
        return found

    def root_certificate(self) -> bytes:
        """The root to trust."""
        return (self.state / "ca.pem").read_bytes()

    def socket(self, name: str) -> Path:
        """Where a workload listens in the clear, past the ingress and its sidecar."""
        return Path(self.service(name)["grpc"].removeprefix("unix:"))

    @contextlib.contextmanager
    def rest(self, token: str | None = None) -> Iterator[httpx.Client]:
        """HTTP through the ingress, with a token or without one."""
        context = ssl.create_default_context(cafile=self.state / "ca.pem")
        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        base = f"https://localhost:{self.port}"
        with httpx.Client(base_url=base, verify=context, headers=headers, timeout=WITHIN) as client:
            yield client

    @contextlib.contextmanager
    def auth(self) -> Iterator[AuthServiceStub]:
        """A stub of auth through the ingress, without a token."""
        credentials = grpc.ssl_channel_credentials(self.root_certificate())
        with grpc.secure_channel(f"localhost:{self.port}", credentials) as channel:
            yield AuthServiceStub(channel)

    def log_in(self) -> TokenPair:
        """A new session of the user with the usual roles."""
        self.token()  # there is such a user once somebody has asked
        password = (self.state / "kept-secrets" / "users" / EDITOR).read_text()
        with self.auth() as auth:
            return auth.Login(LoginRequest(username=EDITOR, password=password), timeout=10)

    def end_sessions(self) -> str:
        """Runs auth's command with the settings that auth has here, and forgets the tokens that count no more."""
        settings = psutil.Process(self.service("auth")["pid"]).environ()
        path = os.pathsep.join(filter(None, sys.path))
        done = subprocess.run(
            [sys.executable, "-m", "auth.end_sessions"],
            env={**settings, "PYTHONPATH": path},
            capture_output=True,
            text=True,
            timeout=WITHIN,
            check=False,
        )
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        self._tokens.clear()
        return done.stdout

    @contextlib.contextmanager
    def items(self, token: str | None = "") -> Iterator[ItemServiceStub]:
        """A stub through the ingress, with a good token, another one, or with `None` none."""
        chosen = self.token() if token == "" else token
        credentials = grpc.ssl_channel_credentials(self.root_certificate())
        with grpc.secure_channel(f"localhost:{self.port}", credentials) as channel:
            yield ItemServiceStub(_with_token(channel, chosen))


def _with_token(channel: grpc.Channel, token: str | None) -> grpc.Channel:
    return channel if token is None else grpc.intercept_channel(channel, _Bearer(token))


class _Bearer(grpc.UnaryUnaryClientInterceptor):
    def __init__(self, token: str) -> None:
        self._metadata = (("authorization", f"Bearer {token}"),)

    def intercept_unary_unary(self, continuation, client_call_details, request):
        metadata = (*(client_call_details.metadata or ()), *self._metadata)
        return continuation(client_call_details._replace(metadata=metadata), request)
