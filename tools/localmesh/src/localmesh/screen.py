"""What the mesh shows to a person."""

import os
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from localmesh import accounts, places
from localmesh.deaths import Obituary
from localmesh.state import IN_THE_TREE
from localmesh.status import Status
from localmesh.topology import Topology

WIDTH_OF_FILES = 120
DEATHS_SHOWN = 3
console = Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH_OF_FILES)


class Steps:
    """Prints a line for each step of the start as it is done."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        if (account := accounts.unprivileged()) is not None:
            where = places.reachable_folder()
            console.print(f"  [dim]We are root: PostgreSQL runs as {account.name}, with its data below {where}.[/]")

    def __call__(self, name: str, seconds: float) -> None:
        """A step is done."""
        total = time.monotonic() - self._started
        console.print(f"  [green]✓[/] {name:<16} {seconds:5.1f} s   [dim]at {total:5.1f} s[/]")


def table(status: Status) -> Table:
    """The processes of the mesh."""
    result = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("", "ready", "pid", "memory", "restarts", "where"):
        result.add_column(heading, justify="right" if heading in {"pid", "memory", "restarts"} else "left")
    if status.ingress is not None:
        _row(result, "ingress", status.ingress.pid, ready=status.ingress.pid != 0, where=status.ingress.rest)
    for service in status.services:
        _row(result, service.name, service.pid, ready=service.ready, where=service.grpc, restarts=str(service.restarts))
        if service.sidecar is not None:
            sidecar = service.sidecar
            _row(result, "  its sidecar", sidecar.pid, ready=sidecar.pid != 0, where=f"{sidecar.inbound} (mTLS)")
    for part in status.parts:
        _row(result, f"{part.name} {part.version}", part.pid, ready=part.ready, where=part.address)
    return result


def live(status: Status, died: Sequence[Obituary] = ()) -> Group:
    """The table with a line about the whole, and who died last."""
    text = Text("Ready.") if status.ready else Text("Not ready.", style="yellow")
    return Group(table(status), text, *map(Text, deaths(died)))


def deaths(died: Sequence[Obituary]) -> Iterator[str]:
    """The latest deaths, each with the last words of the process."""
    for death in died[-DEATHS_SHOWN:]:
        at = time.strftime("%H:%M:%S", time.localtime(death.at))
        yield f"{death.name} ended {death.how} at {at} and was started again; its last lines:"
        yield from (f"  | {line[:WIDTH_OF_FILES]}" for line in death.lines.splitlines() or ["(none)"])


def print_usage(topology: Topology, status: Status) -> None:
    """Prints the lines to paste, each on a line of its own however narrow the terminal is."""
    console.print(f"\n{usage(topology, status)}\n", soft_wrap=True, markup=False)


def usage(topology: Topology, status: Status) -> str:
    """Lines to paste into a shell, for every service with an example."""
    if status.ingress is None:
        return ""
    state = Path(status.ingress.ca).parent
    mesh = "./mesh" if state == IN_THE_TREE else f"./mesh --state {shlex.quote(short(str(state)))}"
    ca, token = shlex.quote(short(status.ingress.ca)), f'-H "authorization: Bearer $({mesh} token)"'
    lines = []
    for service in topology.services.values():
        if (example := service.example) is not None:
            verb, path = example.rest.split()
            body = shlex.quote(example.body)
            lines.append(f"grpcurl -cacert {ca} {token} -d {body} {status.ingress.grpc} {example.grpc}")
            lines.append(f"curl --cacert {ca} {token} -X {verb} -d {body} {status.ingress.rest}{path}")
    return "\n".join(lines)


def short(path: str) -> str:
    """A path from the working directory when it is below that."""
    absolute = Path(path)
    return os.path.relpath(absolute) if absolute.is_relative_to(Path.cwd()) else path


def memory(pids: set[int]) -> int:
    """The resident memory of processes and their children, in bytes; what they share is counted for each."""
    total = 0
    for pid in pids:
        try:
            process = psutil.Process(pid)
            total += sum(each.memory_info().rss for each in (process, *process.children(recursive=True)))
        except psutil.Error:
            continue
    return total


def complain(sentence: str, detail: str = "") -> None:
    """Says on standard error what went wrong, with the lines that prove it."""
    for line in sentence.splitlines():
        sys.stderr.write(f"mesh: {line}\n")
    for line in detail.splitlines():
        sys.stderr.write(f"  | {line}\n")


def _row(result: Table, name: str, pid: int, *, ready: bool, where: str, restarts: str = "") -> None:
    state = "[green]yes[/]" if ready else "[red]no[/]"
    megabytes = f"{memory({pid}) / 2**20:.0f} MiB" if pid else ""
    result.add_row(name, state, str(pid or ""), megabytes, restarts, where)
