"""`./mesh trace`: one call's way through ingress, sidecars and services."""

import json

from localmesh import screen
from localmesh.ask import ask
from localmesh.failure import MeshError
from localmesh.spans.view import overview, waterfall
from localmesh.state import StateFolder


def trace(state: StateFolder, start: str | None, *, count: int, as_json: bool) -> int:
    """Shows the trace whose id starts with `start`, or without one the last `count` traces, a line each."""
    request = {"traces": count} if start is None else {"trace": start}
    (found,) = ask(state, request)
    if start is not None and not found:
        raise MeshError(f"no trace begins with {start}: the mesh keeps the latest few thousand, in memory only")
    if as_json:
        print(json.dumps(found))
    elif start is None:
        screen.console.print(overview(found) if found else "No calls yet.")
    else:
        for each in found:
            screen.console.print(waterfall(each), soft_wrap=not screen.console.is_terminal)
    return 0
