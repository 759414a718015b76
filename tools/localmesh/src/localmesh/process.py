"""One operating-system process of the mesh: its own group, its output in a file, gone when we are gone."""

import asyncio
import os
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from localmesh import launch
from localmesh.accounts import Account
from localmesh.failure import MeshError
from localmesh.ledger import Ledger


@dataclass(frozen=True, kw_only=True)
class Command:
    """What to run, and how it likes to be stopped. Secrets belong into `env` or files, never into `argv`."""

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: Path | None = None
    account: Account | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    stop_within: float = 10.0


class Process:
    """A running process; `spawn` makes one."""

    def __init__(self, command: Command, child: asyncio.subprocess.Process, log: Path, ledger: Ledger | None) -> None:
        self._command = command
        self._child = child
        self._log = log
        self._ledger = ledger

    @classmethod
    async def spawn(cls, command: Command, log: Path, ledger: Ledger | None = None) -> Self:
        """Starts the command with its output appended to `log`, and notes it in the ledger, if there is one.

        Raises OSError, and leaves nothing running, when the system refuses one of the three.
        """
        account = "-" if command.account is None else f"{command.account.uid}:{command.account.gid}"
        launcher = (launch.__file__, str(os.getpid()), str(int(command.stop_signal)), account)
        with log.open("ab") as output:
            child = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", *launcher, *command.argv),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=dict(command.env),
                cwd=command.cwd,
                process_group=0,
            )
        process = cls(command, child, log, ledger)
        if ledger is not None:
            try:
                ledger.note(command.name, child.pid, command.argv)
            except BaseException:  # nobody would know of it: neither who asked for it nor a later run
                process.kill()
                await process.wait()
                raise
        return process

    @property
    def pid(self) -> int:
        """The process id, which is its group's as well."""
        return self._child.pid

    @property
    def returncode(self) -> int | None:
        """The exit status, negative for a signal; `None` while it runs."""
        return self._child.returncode

    async def wait(self) -> int:
        """Returns the exit status once it has ended."""
        status = await self._child.wait()
        if self._ledger is not None:
            self._ledger.strike(self.pid)
        return status

    async def stop(self) -> None:
        """Asks it to end, then makes it: bounded by the command's `stop_within` seconds and a little."""
        if self.returncode is None:
            with suppress(ProcessLookupError):
                self._child.send_signal(self._command.stop_signal)
            try:
                async with asyncio.timeout(self._command.stop_within):
                    await self._child.wait()
            except TimeoutError:
                self.kill()
        await self.wait()

    def kill(self) -> None:
        """Ends it and its group without asking."""
        if self.returncode is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)

    def last_lines(self, count: int = 12) -> str:
        """The end of its output."""
        return last_lines(self._log, count)


async def run_to_end(command: Command, log: Path, ledger: Ledger | None = None, *, within: float = 120.0) -> None:
    """Runs a command that ends by itself; raises `MeshError` with its last words when it fails or takes too long."""
    process = await Process.spawn(command, log, ledger)
    try:
        async with asyncio.timeout(within):
            status = await process.wait()
    except TimeoutError:
        raise MeshError(f"{command.name} did not end within {within:.0f} s", detail=process.last_lines()) from None
    finally:
        process.kill()
        await process.wait()
    if status != 0:
        raise MeshError(f"{command.name} failed with exit status {status}", detail=process.last_lines())


def last_lines(log: Path, count: int) -> str:
    """The last `count` lines of a file, or nothing when it cannot be read."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 32_768))
            return "\n".join(file.read().decode(errors="replace").splitlines()[-count:])
    except OSError:
        return ""
