"""`./mesh rotate`: new certificates for everybody, while all goes on."""

from localmesh.ask import ask
from localmesh.state import StateFolder


def rotate(state: StateFolder, *, authority: bool) -> int:
    """With `authority` they are those of a new root."""
    for line in ask(state, {"rotate": authority}):
        print(line)
    return 0
