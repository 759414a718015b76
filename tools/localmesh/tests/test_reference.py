"""The reference in docs/reference says what the protos say."""

from pathlib import Path

from localmesh import topology
from localmesh.reference import reference_of

PLACE = Path(__file__).parents[3] / "docs" / "reference" / "rpcs.md"


def test_the_reference_is_up_to_date():
    assert PLACE.read_text() == reference_of(topology.read(topology.IN_THE_TREE)), "run `./mesh reference --write`"
