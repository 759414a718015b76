"""`./mesh status`: how everything is."""

from localmesh import screen
from localmesh.state import StateFolder
from localmesh.status import NOT_READY, NOT_RUNNING, READY, Status
from localmesh.topology import Topology


def show_status(topology: Topology, state: StateFolder, *, as_json: bool) -> int:
    """Prints the status; returns 0 when ready, 3 when up but not ready, 4 when not running."""
    running = state.holder() is not None
    status = Status.read(state.status) if running else Status()
    if as_json:
        print(status.to_json())
    elif running:
        screen.console.print(screen.table(status))
        screen.print_usage(topology, status)
    else:
        screen.console.print("The mesh is not running; ./mesh up starts it.")
    if not running:
        return NOT_RUNNING
    return READY if status.ready else NOT_READY
