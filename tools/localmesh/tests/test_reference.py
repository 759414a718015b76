"""The reference in docs/reference says what the protos say."""

from pathlib import Path

from localmesh.reference import reference_of

PLACE = Path(__file__).parents[3] / "docs" / "reference" / "rpcs.md"


def test_the_reference_is_up_to_date(described):
    assert PLACE.read_text() == reference_of(described), "run `./mesh reference --write`"
