"""`./mesh restart`: one instance after the other, so that who calls does not notice."""

from localmesh.ask import ask
from localmesh.state import StateFolder


def restart(state: StateFolder, name: str) -> int:
    """Says of each process that it is back."""
    for line in ask(state, {"restart": name}):
        print(line, flush=True)
    return 0
