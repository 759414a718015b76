"""`./mesh attempts`: the check that nobody multiplies anybody's retries."""

from rich.table import Table

from localmesh import screen
from localmesh.envoy.rendering import render, ways
from localmesh.failure import MeshError
from localmesh.intent.amplification import amplifications, faults
from localmesh.topology import Topology
from localmesh.workload import policies_of


def attempts(topology: Topology) -> int:
    """Prints the worst case of every RPC; raises `MeshError` when one is above its policy or above the budget."""
    rendered = render(topology)
    found = [
        each
        for name, service in topology.services.items()
        for each in amplifications(policies_of(service), ways(topology, name, rendered))
    ]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("RPC", "attempts at worst", "by", "way"):
        table.add_column(heading, overflow="fold")
    for each in found:
        by = each.sum
        table.add_row(each.path, str(each.attempts), by, each.way)
    screen.console.print(table)
    if wrong := list(faults(found, topology.attempts_budget)):
        raise MeshError("\n".join(wrong))
    return 0
