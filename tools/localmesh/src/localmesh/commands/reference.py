"""`./mesh reference`: the table of every RPC, for docs/reference/rpcs.md."""

from localmesh import topology as described
from localmesh.files import write_atomically
from localmesh.reference import reference_of
from localmesh.topology import Topology

PLACE = described.IN_THE_TREE.parents[1] / "docs" / "reference" / "rpcs.md"


def reference(topology: Topology, *, write: bool) -> int:
    """Prints the document, or puts it where it belongs."""
    text = reference_of(topology)
    if write:
        PLACE.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(PLACE, text)
    else:
        print(text, end="")
    return 0
