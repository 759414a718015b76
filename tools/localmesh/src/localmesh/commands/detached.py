"""`./mesh up --detach`: the same in a process of its own, which tells through a pipe how its start went."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from localmesh import screen
from localmesh.environment import STATE
from localmesh.failure import MeshError, of_system
from localmesh.mesh import Mesh
from localmesh.options import Options
from localmesh.process import last_lines
from localmesh.running import Stopped, run
from localmesh.state import AlreadyRunning, StateFolder
from localmesh.status import Status
from localmesh.topology import Topology


def detach(topology: Topology, state: StateFolder, arguments: Sequence[str], asked: Mapping[str, str]) -> int:
    """Starts the mesh with these arguments of `./mesh`, and `asked` in its environment; returns when it is ready."""
    if (pid := state.holder()) is not None:
        raise AlreadyRunning(f"a mesh is already up in {state.root} (pid {pid})")
    for number in (signal.SIGINT, signal.SIGTERM):  # from here on there is something to end
        signal.signal(number, signal.default_int_handler)
    reading, writing = os.pipe()
    log = state.root / "mesh.log"
    found = {**asked, **os.environ, STATE: str(state.root), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with _opened(state, log) as output:
        daemon = subprocess.Popen(  # noqa: S603 - our own program
            [sys.executable, "-P", "-m", "localmesh", *arguments, "--report-to", str(writing)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=found,
            pass_fds=(writing,),
            start_new_session=True,
        )
    os.close(writing)
    try:
        _follow(reading)
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            daemon.send_signal(signal.SIGTERM)
        daemon.wait()
        raise
    if (status := Status.read(state.status)).ingress is None:
        raise MeshError("the mesh died while starting", detail=last_lines(log, 12))
    screen.console.print(screen.table(status))
    screen.print_usage(topology, status)
    return 0


def report_to(handle: int, topology: Topology, state: StateFolder, options: Options) -> int:
    """The detached process: runs until SIGTERM, and reports its start to the pipe `handle`."""
    with os.fdopen(handle, "w", buffering=1) as pipe:
        try:
            run(_serve(topology, state, options, _Pipe(pipe.fileno())))
        except Stopped:
            return 0
        except MeshError as error:
            failure = {"failure": str(error), "detail": error.detail, "exit_status": error.exit_status}
        except OSError as error:
            failure = {"failure": of_system(error), "detail": "", "exit_status": 1}
        except Exception as error:  # noqa: BLE001 - the one who waits is to be told whatever it was
            failure = {"failure": f"unexpected: {error!r}", "detail": traceback.format_exc(), "exit_status": 1}
        with contextlib.suppress(OSError):
            pipe.write(f"{json.dumps(failure)}\n")
        return int(str(failure["exit_status"]))


class _Pipe:
    """Steps as JSON lines; silent once the other end is gone."""

    def __init__(self, handle: int) -> None:
        self._handle = handle

    def __call__(self, name: str, seconds: float) -> None:
        self.say({"step": name, "seconds": seconds})

    def say(self, line: dict[str, object]) -> None:
        with contextlib.suppress(OSError):
            os.write(self._handle, f"{json.dumps(line)}\n".encode())


async def _serve(topology: Topology, state: StateFolder, options: Options, pipe: _Pipe) -> None:
    with state.lock() as ledger:
        async with Mesh(topology, state, ledger, options, pipe):
            pipe.say({"ready": True})
            await asyncio.Event().wait()


def _follow(handle: int) -> None:
    """Prints the steps; returns at the end, raises what the other side reports."""
    steps = screen.Steps()
    with os.fdopen(handle) as pipe:
        for line in pipe:
            told = json.loads(line)
            if "failure" in told:
                raise MeshError(told["failure"], detail=told["detail"], exit_status=told["exit_status"])
            if "ready" in told:
                return
            steps(told["step"], told["seconds"])


def _opened(state: StateFolder, log: Path) -> BinaryIO:
    try:
        state.check_ours()
        state.root.mkdir(parents=True, exist_ok=True)
        return log.open("wb")
    except OSError as error:
        raise state.unwritable(error) from error
