"""A service's table and the request it answers."""

from sqlalchemy import select

from grpc_common.listing.field import Field, Kind
from grpc_common.listing.listed import Listed
from grpc_common.listing.page_size import page_size
from grpc_common.listing.page_token import PageTokens
from items.table import ITEMS
from meshwork.items.v1.items_service_pb2 import SearchItemsRequest

request: SearchItemsRequest
secret: bytes
