"""The one order in which users are listed."""

from typing import Final

from auth.table import USERS
from grpc_common.listing.field import Field, Kind
from grpc_common.listing.listed import Listed

USER_LIST: Final = Listed(
    [Field(name="username", column=USERS.c.username, kind=Kind.TEXT, unique=True)], key="username"
).query()
"""By name, which is all that a page token says."""
