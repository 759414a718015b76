"""`./mesh token`: an access token to try things by hand."""

from collections.abc import Sequence

from localmesh.failure import MeshError
from localmesh.issuer import Issuer
from localmesh.state import StateFolder
from localmesh.status import NOT_RUNNING
from localmesh.topology import Topology


def token(topology: Topology, state: StateFolder, roles: Sequence[str]) -> int:
    """Prints nothing but the token."""
    if state.holder() is None:
        raise MeshError("the mesh is not running; ./mesh up starts it", exit_status=NOT_RUNNING)
    print(Issuer(state.issuer, topology.tokens).sign(roles))
    return 0
