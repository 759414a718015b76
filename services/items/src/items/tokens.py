"""Where watches go on, as texts that mean nothing to callers."""

from grpc_common.errors import ValidationError
from grpc_common.listing.page_token import PageTokens
from items.listed import CHANGE_LIST


class ResumeTokens:
    """Tokens for positions in the log of changes."""

    def __init__(self, tokens: PageTokens) -> None:
        self._tokens = tokens

    def write(self, position: int) -> str:
        """Returns the token with which a watch goes on after the position."""
        return self._tokens.write(CHANGE_LIST, (position,))

    def read(self, token: str) -> int | None:
        """Returns the position, or None for the empty token. Raises ValidationError for one that is none of ours."""
        try:
            position = self._tokens.read(token, CHANGE_LIST)
        except ValidationError:
            raise ValidationError("is not a resume token of this watch", field="resume_token") from None
        if position is None:
            return None
        (number,) = position
        assert isinstance(number, int)  # noqa: S101  # the list says so
        return number
