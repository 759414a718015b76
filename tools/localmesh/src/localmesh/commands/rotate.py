"""`./mesh rotate`: new certificates for everybody, or a new key for tokens, while all goes on."""

from localmesh.ask import ask
from localmesh.state import StateFolder


def rotate(state: StateFolder, *, authority: bool, keys: bool) -> int:
    """With `authority` they are those of a new root; with `keys` it is the signing keys that get a next version."""
    for line in ask(state, {"rotate_keys": True} if keys else {"rotate": authority}):
        print(line)
    return 0
