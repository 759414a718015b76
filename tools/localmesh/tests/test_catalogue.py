"""The catalogue of the demo is a shop's."""

import re

from localmesh.demo.catalogue import catalogue


def test_it_has_300_different_items_a_service_can_take():
    items = catalogue()
    assert len(items) == len({item.sku for item in items}) == len({item.name for item in items}) == 300
    for item in items:
        assert re.fullmatch(r"[A-Za-z0-9._-]{1,64}", item.sku)
        assert 1 <= len(item.name) <= 200
        assert len(item.description) <= 2000
        assert item.quantity >= 0
        assert item.price > 0
