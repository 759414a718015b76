"""How a command asks the running mesh to do something."""

import json
import socket
from collections.abc import Iterator
from typing import Any

from localmesh.failure import MeshError
from localmesh.state import StateFolder
from localmesh.status import NOT_RUNNING

ANSWER_WITHIN = 180.0


def ask(state: StateFolder, request: dict[str, Any]) -> Iterator[Any]:
    """Yields what the mesh says; raises `MeshError` when it is not running, or says that it failed."""
    if state.holder() is None:
        raise MeshError("the mesh is not running; ./mesh up starts it", exit_status=NOT_RUNNING)
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(ANSWER_WITHIN)
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
    raise MeshError("the mesh ended before it had answered")
