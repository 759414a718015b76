"""Families in memory, for tests of what is built on them; the contract test holds it to what a database does."""

import asyncio
from dataclasses import replace

from auth.caller import NOBODY, Caller
from auth.family import Ending, Family, Login


class MemoryFamilies:
    """Keeps families in a dictionary. Each call lets others go first, as a database would."""

    def __init__(self) -> None:
        self._kept: dict[str, Family] = {}

    async def add(self, family: Family, login: Login | None = None) -> bool:
        await asyncio.sleep(0)
        if login is not None:
            raise RuntimeError("who is a user is known to the database alone")
        if family.id in self._kept:
            raise KeyError(family.id)
        self._kept[family.id] = family
        return True

    async def find(self, family_id: str) -> Family | None:
        await asyncio.sleep(0)
        found = self._kept.get(family_id)
        await asyncio.sleep(0)
        return found

    async def replace(self, family: Family) -> bool:
        await asyncio.sleep(0)
        kept = self._kept.get(family.id)
        if kept is None or kept.generation != family.generation - 1 or kept.revoked is not None:
            return False
        self._kept[family.id] = family
        await asyncio.sleep(0)
        return True

    async def revoke(self, family_id: str, ending: Ending, at: float, *, caller: Caller = NOBODY) -> bool:
        await asyncio.sleep(0)
        kept = self._kept.get(family_id)
        if kept is None or kept.revoked is not None:
            return False
        self._kept[family_id] = replace(kept, revoked=ending)
        return True

    async def revoke_all(
        self, subject: str, ending: Ending, at: float, *, keep: str = "", caller: Caller = NOBODY
    ) -> int:
        await asyncio.sleep(0)
        found = [each.id for each in self._kept.values() if each.subject == subject and each.id != keep]
        return sum([await self.revoke(each, ending, at, caller=caller) for each in found])

    async def forget(self, before: float, limit: int) -> int:
        await asyncio.sleep(0)
        old = [each.id for each in self._kept.values() if each.rotated_at < before][:limit]
        for each in old:
            del self._kept[each]
        return len(old)
