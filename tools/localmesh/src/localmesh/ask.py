"""How a command asks the running mesh to do something."""

import json
import socket
from collections.abc import Iterator
from typing import Any

import psutil

from localmesh.failure import MeshError
from localmesh.state import StateFolder
from localmesh.status import NOT_RUNNING

ANSWER_WITHIN = 180.0


def ask(state: StateFolder, request: dict[str, Any], *, within: float = ANSWER_WITHIN) -> Iterator[Any]:
    """Yields what the mesh says; raises `MeshError` when it is not running, says that it failed, or says nothing
    `within` seconds.
    """
    if (pid := state.holder()) is None:
        raise MeshError("the mesh is not running; ./mesh up starts it", exit_status=NOT_RUNNING)
    if _is_stopped(pid):
        raise MeshError(f"the mesh (pid {pid}) is stopped: kill -CONT {pid} lets it go on, ./mesh down ends it")
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(within)
            try:
                connection.connect(str(state.control))
            except OSError as error:
                raise MeshError("the mesh is starting or stopping: ask again in a moment") from error
            connection.sendall(f"{json.dumps(request)}\n".encode())
            with connection.makefile() as lines:
                for line in lines:
                    told = json.loads(line)
                    if "failure" in told:
                        raise MeshError(told["failure"], detail=told["detail"], exit_status=told["exit_status"])
                    if "done" in told:
                        return
                    yield told["said"]
    except TimeoutError as error:
        raise MeshError(f"the mesh (pid {pid}) does not answer: it said nothing within {within:.0f} s") from error
    raise MeshError("the mesh ended before it had answered")


def _is_stopped(pid: int) -> bool:
    """Whether somebody stopped the process, by Ctrl-Z for example."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_STOPPED
    except psutil.Error:
        return False
