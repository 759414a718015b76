"""`./mesh status`: how everything is."""

import time

from rich.live import Live

from localmesh import screen
from localmesh.deaths import read_deaths
from localmesh.state import StateFolder
from localmesh.status import NOT_READY, NOT_RUNNING, READY, Status
from localmesh.topology import Topology

REFRESH_EVERY = 1.0


def show_status(topology: Topology, state: StateFolder, *, as_json: bool, watch: bool = False) -> int:
    """Prints the status, again and again with `watch`; returns 0 when ready, 3 when not, 4 when nothing runs."""
    if watch and not as_json:
        _watch(state)
    running = state.holder() is not None
    status = Status.read(state.status) if running else Status()
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


def _watch(state: StateFolder) -> None:
    with Live(console=screen.console, auto_refresh=False, transient=True) as view:
        while state.holder() is not None:
            view.update(screen.live(Status.read(state.status), read_deaths(state.deaths)), refresh=True)
            time.sleep(REFRESH_EVERY)
