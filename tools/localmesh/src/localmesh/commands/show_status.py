"""`./mesh status`: how everything is."""

import time
from dataclasses import replace

from rich.console import Group
from rich.live import Live

from localmesh import screen
from localmesh.ask import ask
from localmesh.deaths import read_deaths
from localmesh.failure import MeshError
from localmesh.state import StateFolder
from localmesh.status import NOT_READY, NOT_RUNNING, READY, Status
from localmesh.topology import Topology

REFRESH_EVERY = 1.0
ANSWER_WITHIN = 5.0


def show_status(topology: Topology, state: StateFolder, *, as_json: bool, watch: bool = False) -> int:
    """Prints the status, again and again with `watch`; returns 0 when ready, 3 when not, 4 when nothing runs."""
    if watch and not as_json:
        _watch(state)
    status, complaint = _now(state)
    if complaint:
        screen.complain(complaint)
    running = state.holder() is not None
    if as_json:
        print(status.to_json())
    elif running:
        screen.console.print(screen.table(status))
        for line in screen.deaths(read_deaths(state.deaths)):
            screen.console.print(line, markup=False)
        screen.print_usage(topology, status)
    else:
        screen.console.print("The mesh is not running; ./mesh up starts it.")
    if not running:
        return NOT_RUNNING
    return READY if status.ready else NOT_READY


def _now(state: StateFolder) -> tuple[Status, str]:
    """What the mesh says; what it said last, and not ready, and a complaint, when it does not answer any more."""
    if state.holder() is None:
        return Status(), ""
    written = Status.read(state.status)
    if not written.ready:
        return written, ""
    try:
        (told,) = ask(state, {"status": True}, within=ANSWER_WITHIN)
    except MeshError as silent:
        if state.holder() is None:  # it has just gone
            return Status(), ""
        return replace(written, ready=False), str(silent)
    return Status.from_json(told), ""


def _watch(state: StateFolder) -> None:
    with Live(console=screen.console, auto_refresh=False, transient=True) as view:
        while state.holder() is not None:
            status, complaint = _now(state)
            shown = Group(screen.live(status, read_deaths(state.deaths)), *([complaint] if complaint else []))
            view.update(shown, refresh=True)
            time.sleep(REFRESH_EVERY)
