"""The kinds of RPC, and the styles in which a handler may be written for each."""

from itertools import product
from typing import Final, NamedTuple


class Style(NamedTuple):
    """How a handler takes its requests (unary, iterator, read) and gives its replies (unary, generator, write)."""

    requests: str
    replies: str

    @property
    def kind(self) -> str:
        """One of unary_unary, unary_stream, stream_unary and stream_stream: requests first, replies second."""
        return "_".join("unary" if part == "unary" else "stream" for part in self)

    @property
    def name(self) -> str:
        """The method's name, "iterator_write" for instance."""
        return f"{self.requests}_{self.replies}"


STYLES: Final = tuple(
    Style(*parts) for parts in product(("unary", "iterator", "read"), ("unary", "generator", "write"))
)
ONE_PER_KIND: Final = tuple(style for style in STYLES if "read" not in style and "write" not in style)
