"""The list of users, by the page (AIP-158)."""

from collections.abc import Sequence
from typing import Final

from auth.listed import USER_LIST
from auth.repository import Users
from auth.user import User
from grpc_common.listing.page_size import page_size
from grpc_common.listing.page_token import PageTokens

DEFAULT_PAGE: Final = 50
LARGEST_PAGE: Final = 1_000


class UserPages:
    """Reads users by name; a token goes on where the page before ended."""

    def __init__(self, users: Users, tokens: PageTokens) -> None:
        self._users = users
        self._tokens = tokens

    async def page(self, token: str, size: int) -> tuple[Sequence[User], str]:
        """Return a page and the token of the next one, which is empty after the last.

        Raises:
            ValidationError: naming the argument that is wrong.
        """
        wanted = page_size(size, default=DEFAULT_PAGE, most=LARGEST_PAGE)
        position = self._tokens.read(token, USER_LIST)
        users = await self._users.page("" if position is None else str(position[0]), wanted + 1)
        if len(users) <= wanted:
            return users, ""
        page = users[:wanted]
        return page, self._tokens.write(USER_LIST, (page[-1].username,))
