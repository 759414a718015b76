"""The contract of whatever keeps families of refresh tokens."""

import asyncio
from dataclasses import replace

import pytest

from auth.family import Families, Family
from auth.sql_families import SqlFamilies
from memory_families import MemoryFamilies

NOW = 1_800_000_000.25


def family(family_id: str = "f" * 32, subject: str = "alice") -> Family:
    return Family(
        id=family_id,
        subject=subject,
        client_id="web",
        scopes=frozenset({"items:read", "items:write"}),
        salt=bytes(range(16)),
        token_hash=bytes(range(32)),
        generation=0,
        created_at=NOW,
        rotated_at=NOW,
    )


def next_of(before: Family, now: float = NOW + 1) -> Family:
    return before.rotated(bytes(reversed(range(32))), now, grace=10)


@pytest.fixture(scope="session", params=["memory", "postgresql", "sqlite"])
def kind(request: pytest.FixtureRequest) -> str:
    """What keeps the families."""
    return str(request.param)


@pytest.fixture
def families(request: pytest.FixtureRequest, kind: str) -> Families:
    return MemoryFamilies() if kind == "memory" else SqlFamilies(request.getfixturevalue("engine"))


class TestFamilies:
    async def test_what_was_added_is_found_as_it_was(self, families: Families) -> None:
        await families.add(family())

        assert await families.find(family().id) == family()

    async def test_what_was_not_is_not_found(self, families: Families) -> None:
        await families.add(family())

        assert await families.find("0" * 32) is None

    async def test_the_next_generation_replaces_the_one_before(self, families: Families) -> None:
        await families.add(family())
        second = next_of(family())
        third = next_of(second, NOW + 2)

        assert await families.replace(second)
        assert await families.replace(third)
        assert await families.find(family().id) == third
        assert third.used_at == (NOW + 1, NOW + 2)

    async def test_no_generation_comes_twice_or_early(self, families: Families) -> None:
        await families.add(family())
        second = next_of(family())
        await families.replace(second)

        for wrong in (family(), second, replace(second, token_hash=bytes(32)), next_of(next_of(second))):
            assert not await families.replace(wrong)
        assert await families.find(family().id) == second

    async def test_what_is_not_there_is_not_replaced(self, families: Families) -> None:
        assert not await families.replace(next_of(family()))
        assert await families.find(family().id) is None

    async def test_of_many_at_once_one_replaces(self, families: Families) -> None:
        await families.add(family())
        changes = [next_of(family(), NOW + number) for number in range(20)]

        replaced = await asyncio.gather(*map(families.replace, changes))

        assert sum(replaced) == 1
        assert await families.find(family().id) == changes[replaced.index(True)]

    async def test_a_revoked_family_is_found_and_never_replaced(self, families: Families) -> None:
        await families.add(family())

        assert await families.revoke(family().id, "reused", NOW)
        assert not await families.replace(next_of(family()))
        assert await families.find(family().id) == replace(family(), revoked="reused")

    async def test_a_family_is_revoked_once(self, families: Families) -> None:
        await families.add(family())
        revoked = await asyncio.gather(*(families.revoke(family().id, "logged_out", NOW) for _ in range(20)))

        assert sum(revoked) == 1
        assert not await families.revoke(family().id, "reused", NOW)
        assert await families.find(family().id) == replace(family(), revoked="logged_out")

    async def test_what_is_not_there_is_not_revoked(self, families: Families) -> None:
        assert not await families.revoke(family().id, "logged_out", NOW)

    async def test_all_of_a_subject_are_revoked_but_the_one_to_keep(self, families: Families) -> None:
        for number in range(4):
            await families.add(family(f"{number}" * 32))
        await families.add(family("a" * 32, subject="bob"))
        await families.revoke("3" * 32, "logged_out", NOW)

        assert await families.revoke_all("alice", "password_changed", NOW, keep="0" * 32) == 2
        found = [await families.find(name * 32) for name in "0123a"]
        assert [each and each.revoked for each in found] == [
            None,
            "password_changed",
            "password_changed",
            "logged_out",
            None,
        ]
        assert await families.revoke_all("nobody", "administrator", NOW) == 0

    async def test_the_old_are_forgotten_revoked_or_not_and_no_more_than_asked(self, families: Families) -> None:
        for number in range(5):
            await families.add(replace(family(f"{number}" * 32), rotated_at=NOW + number))
        await families.revoke("1" * 32, "logged_out", NOW)

        assert await families.forget(NOW, 10) == 0
        assert await families.forget(NOW + 3, 2) == 2
        assert await families.forget(NOW + 3, 2) == 1
        assert await families.forget(NOW + 3, 2) == 0
        found = [await families.find(f"{number}" * 32) for number in range(5)]
        assert [each is None for each in found] == [True, True, True, False, False]

    async def test_what_is_forgotten_is_neither_replaced_nor_revoked(self, families: Families) -> None:
        await families.add(family())
        await families.forget(NOW + 1, 10)

        assert not await families.replace(next_of(family()))
        assert not await families.revoke(family().id, "logged_out", NOW)
        assert await families.revoke_all("alice", "disabled", NOW) == 0


def test_a_family_shows_neither_its_salt_nor_a_hash() -> None:
    assert "x01" not in repr(family())


def test_the_times_of_a_family_do_not_go_back() -> None:
    ahead = next_of(family(), NOW + 5)
    behind = next_of(ahead, NOW + 3)

    assert behind.rotated_at == NOW + 5
    assert behind.used_at == (NOW + 5, NOW + 5)


def test_a_family_forgets_the_uses_that_are_out_of_their_grace() -> None:
    first = next_of(family(), NOW)
    second = next_of(first, NOW + 9.5)
    third = next_of(second, NOW + 10)

    assert third.used_at == (NOW + 9.5, NOW + 10)
    assert [third.first_use(generation) for generation in range(5)] == [None, NOW + 9.5, NOW + 10, None, None]
