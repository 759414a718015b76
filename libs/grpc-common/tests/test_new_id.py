"""Ids for what is new."""

import time
from uuid import RFC_4122, UUID

from grpc_common.new_id import new_id


def test_an_id_is_a_uuid_version_7_of_this_millisecond() -> None:
    before = time.time_ns() // 1_000_000
    made = UUID(new_id())
    after = time.time_ns() // 1_000_000

    assert made.version == 7
    assert made.variant == RFC_4122
    assert before <= made.int >> 80 <= after


def test_ids_differ_and_sort_by_time() -> None:
    first = [new_id() for _ in range(1000)]
    time.sleep(0.002)
    second = [new_id() for _ in range(1000)]

    assert len({*first, *second}) == 2000
    assert max(first) < min(second)
