"""`./mesh token`: an access token to try things by hand."""

from collections.abc import Sequence

from localmesh.ask import ask
from localmesh.state import StateFolder


def token(state: StateFolder, roles: Sequence[str]) -> int:
    """Prints nothing but the token."""
    for said in ask(state, {"token": list(roles)}):
        print(said)
    return 0
