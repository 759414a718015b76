"""`./mesh completion`: completes names in a shell, without asking a running mesh."""

from collections.abc import Sequence

from localmesh import descriptors
from localmesh.topology import Topology

BASH = """_mesh() {
  local IFS=$'\\n'
  COMPREPLY=($("${COMP_WORDS[0]}" complete -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
}
complete -o default -F _mesh ./mesh mesh
"""


def completion() -> int:
    """Prints what bash is to `eval`."""
    print(BASH, end="")
    return 0


def complete(topology: Topology, commands: Sequence[str], words: Sequence[str]) -> int:
    """Prints what the last of the words may become."""
    *before, word = words or [""]
    for candidate in candidates(topology, commands, [each for each in before if not each.startswith("-")]):
        if candidate.startswith(word):
            print(candidate)
    return 0


def candidates(topology: Topology, commands: Sequence[str], before: Sequence[str]) -> list[str]:
    """What may follow these words."""
    match before:
        case []:
            return sorted(commands)
        case ["call"] | ["logs"] | ["restart"]:
            return sorted(topology.services)
        case ["call", service] if service in topology.services:
            return sorted(_methods(topology.services[service].grpc))
        case _:
            return []


def _methods(services: Sequence[str]) -> list[str]:
    return [method.name for service in services for method in descriptors.find_service(service).methods]
