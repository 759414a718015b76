"""How many results a page has (AIP-158)."""

from grpc_common.errors import ValidationError


def page_size(asked: int, *, default: int, most: int) -> int:
    """Return the size for the one asked for: the default for 0, never more than the most.

    Raises:
        ValidationError: for a negative one.
    """
    if asked < 0:
        raise ValidationError("must be 0 or more", field="page_size")
    return min(asked or default, most)
