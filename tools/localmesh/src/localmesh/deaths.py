"""How the processes of a mesh died, for whoever asks for its status."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from localmesh.files import write_atomically
from localmesh.unit import Death, Unit


@dataclass(frozen=True)
class Obituary(Death):
    """A death, and whose."""

    name: str


def write_deaths(path: Path, units: Iterable[Unit]) -> None:
    """Writes the latest death of each unit that ever died."""
    found = [asdict(unit.death) | {"name": unit.name} for unit in units if unit.death is not None]
    if found:
        write_atomically(path, json.dumps(found, indent=2), mode=0o600)


def read_deaths(path: Path) -> list[Obituary]:
    """Reads them, the latest last; none where nobody died."""
    try:
        found = [Obituary(**entry) for entry in json.loads(path.read_text())]
    except FileNotFoundError:
        return []
    return sorted(found, key=lambda death: death.at)
