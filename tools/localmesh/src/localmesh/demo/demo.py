"""`./mesh demo`: starts everything, plays the scenario, stops everything, and says how it went."""

import os

import psutil
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from localmesh import ports, screen
from localmesh.demo.findings import Findings, StepFailed
from localmesh.demo.report import report
from localmesh.demo.scenario import Scenario
from localmesh.failure import MeshError
from localmesh.mesh import Mesh
from localmesh.options import Options
from localmesh.process import last_lines
from localmesh.running import Stopped, run
from localmesh.state import StateFolder
from localmesh.topology import Topology

SAY_EVERY = 100


def demo(topology: Topology, state: StateFolder) -> int:
    """Returns 0 when every step did what it should."""
    pids: set[int] = set()
    try:
        findings = run(_demo(topology, state, pids))
    except Stopped as stopped:
        screen.console.print("Stopped; nothing is left running.")
        return stopped.exit_status
    except StepFailed as failure:
        tails = [
            f"{name}: {line}"
            for name in ("items", "auth", "ingress")
            for line in last_lines(state.log(name), 6).splitlines()
        ]
        raise MeshError(f"the demo failed: {failure}", detail="\n".join(tails)) from failure
    screen.console.print(report(findings))
    left = [pid for pid in pids if psutil.pid_exists(pid)]
    if left:
        raise MeshError(f"the demo left processes behind: {left}")
    screen.console.print(f"  Stopped; none of its {len(pids)} processes is left. Logs: {screen.short(str(state.logs))}")
    return 0


async def _demo(topology: Topology, state: StateFolder, pids: set[int]) -> Findings:
    options = Options(port=ports.free_port(), keep=False)
    screen.console.print("[bold]Starting the mesh[/]")
    with state.lock(wipe=True) as ledger:
        async with Mesh(topology, state, ledger, options, screen.Steps()) as mesh:
            pids |= {child.pid for child in psutil.Process().children(recursive=True)}
            screen.console.print("[bold]Filling the shop through the ingress[/] (gRPC over TLS, logged in)")
            with _progress() as progress:
                bar = progress.add_task("items", total=None)

                def tell(done: int, wanted: int) -> None:
                    progress.update(bar, completed=done, total=wanted)
                    if not screen.console.is_terminal and done % SAY_EVERY == 0:
                        screen.console.print(f"  {done} of {wanted} items")

                scenario = Scenario(mesh, tell)
                await scenario.play()
            scenario.findings.memory = screen.memory({os.getpid()})
            return scenario.findings


def _progress() -> Progress:
    columns = (TextColumn("  {task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(*columns, console=screen.console, disable=not screen.console.is_terminal)
