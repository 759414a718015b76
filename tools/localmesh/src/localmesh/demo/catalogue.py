"""The catalogue the demo fills the shop with."""

import json
from importlib.resources import files

from meshwork.items.v1 import items_service_pb2 as pb


def catalogue() -> list[pb.CreateItemRequest]:
    """The items of `catalogue.jsonl`, one a line."""
    text = files("localmesh.demo").joinpath("catalogue.jsonl").read_text(encoding="utf-8")
    return [pb.CreateItemRequest(**json.loads(line)) for line in text.splitlines()]
