"""What callers may ask of a list."""

from collections.abc import Sequence
from hashlib import sha256

from grpc_common.listing.condition import condition
from grpc_common.listing.field import Field
from grpc_common.listing.filter import read_filter
from grpc_common.listing.order import Order, read_order
from grpc_common.listing.page_token import ROOM
from grpc_common.listing.position_codec import most_bytes
from grpc_common.listing.query import FINGERPRINT_BYTES, Query


class Listed:
    """A resource that is listed by these fields; `key` names a unique one, which ends every order.

    LISTED = Listed([Field(name="id", column=T.c.id, kind=Kind.TEXT, unique=True), …], key="id")

    query = LISTED.query(filter=request.filter, order_by=request.order_by)
    statement = select(T).where(query.condition).order_by(*query.order_by).limit(size + 1)
    if position := tokens.read(request.page_token, query):
        statement = statement.where(query.after(position))
    …
    next_page_token = tokens.write(query, query.position(last_row))
    """

    def __init__(self, fields: Sequence[Field], *, key: str) -> None:
        self._fields = {field.name: field for field in fields}
        self._key = self._fields[key]
        if not (self._key.unique and self._key.sortable):
            raise ValueError(f"{key} cannot end an order: it is not unique and sortable")
        counted = _longest_position(fields)
        needed = sum(most_bytes(field) for field in counted)
        if needed > ROOM:
            parts = ", ".join(f"{field.name} {most_bytes(field)}" for field in counted)
            raise ValueError(
                f"a position can take {needed} bytes ({parts}), a page token has room for {ROOM}: let "
                f"{counted[0].name} be shorter, or not sortable"
            )

    def query(self, *, filter: str = "", order_by: str = "", resource: str = "") -> Query:  # noqa: A002  # the AIPs' word
        """Return the list that is asked for; `resource` tells lists of one kind apart, such as those of two parents.

        Raises:
            ValidationError: for `filter` or `order_by`, with what is wrong and what is expected.
        """
        found = condition(read_filter(filter, self._fields))
        order = read_order(order_by, self._fields, self._key)
        return Query(found, order, _fingerprint(filter, order, resource))


def _longest_position(fields: Sequence[Field]) -> list[Field]:
    """Return the fields of the longest position that an order can have, the largest first."""
    sortable = [field for field in fields if field.sortable]
    unique = max((field for field in sortable if field.unique), key=most_bytes)
    return sorted([unique, *(field for field in sortable if not field.unique)], key=most_bytes, reverse=True)


def _fingerprint(filter_: str, order: Order, resource: str) -> bytes:
    sorting = ",".join(f"{each} {each.field.kind.name}" for each in order)
    texts = (resource, filter_.strip(), sorting)
    return sha256(b"".join(len(text.encode()).to_bytes(4) + text.encode() for text in texts)).digest()[
        :FINGERPRINT_BYTES
    ]
