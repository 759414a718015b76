"""`./mesh up`: everything runs until it is told to stop."""

import asyncio

from rich.live import Live

from localmesh import screen
from localmesh.deaths import read_deaths
from localmesh.mesh import Mesh
from localmesh.options import Options
from localmesh.running import Stopped, run
from localmesh.state import StateFolder
from localmesh.topology import Topology

REFRESH_EVERY = 1.0


def up(topology: Topology, state: StateFolder, options: Options) -> int:
    """Stays in the foreground with a live table; Ctrl-C or SIGTERM stops the mesh and is no failure."""
    started = asyncio.Event()
    try:
        run(_up(topology, state, options, started))
    except Stopped as stopped:
        screen.console.print("The mesh is down.")
        return 0 if started.is_set() else stopped.exit_status
    return 0


async def _up(topology: Topology, state: StateFolder, options: Options, started: asyncio.Event) -> None:
    with state.lock() as ledger:
        async with Mesh(topology, state, ledger, options, screen.Steps()) as mesh:
            started.set()
            screen.print_usage(topology, mesh.status())
            if screen.console.is_terminal:
                await _show(mesh)
            screen.console.print(screen.live(mesh.status()))
            screen.console.print("Ctrl-C stops everything.")
            await asyncio.Event().wait()


async def _show(mesh: Mesh) -> None:
    screen.console.print("Ctrl-C stops everything.")
    with Live(screen.live(mesh.status()), console=screen.console, auto_refresh=False, transient=True) as view:
        while True:
            await asyncio.sleep(REFRESH_EVERY)
            view.update(screen.live(mesh.status(), read_deaths(mesh.state.deaths)), refresh=True)
