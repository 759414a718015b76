"""The services that sign with a key in OpenBao: each has a role there, and each of its processes a way to log in."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import hvac
import requests

from localmesh.failure import MeshError
from localmesh.files import private_folder
from localmesh.parts.openbao import OpenBao
from localmesh.transit import MOUNT, SECRET_ID_SECONDS, SigningRole
from localmesh.workload import Workload

LOOK_EVERY = 15.0


class SigningRoles:
    """Puts a fresh wrapped secret id into a file of each process before it starts, and again before that expires.

    A process that has lost its token, for OpenBao was away for too long, so finds another way in.
    """

    def __init__(self, openbao: OpenBao, workloads: Sequence[Workload], folder: Path) -> None:
        self._openbao = openbao
        self._workloads = [each for each in workloads if each.service.transit]
        self._folder = folder
        self._roles: dict[str, SigningRole] = {}
        self._handed_over: dict[str, float] = {}

    def file(self, workload: Workload) -> Path:
        """Where a process finds the token that is good for one secret id."""
        return self._folder / workload.name

    async def set_up(self) -> dict[str, str]:
        """Makes the roles; returns the role id of each service."""
        return await _blocking(self._set_up) if self._workloads else {}

    async def hand_over(self, workload: Workload) -> None:
        """Writes the file anew; raises MeshError while OpenBao is away."""
        role = self._roles[workload.service_name]
        await _blocking(partial(role.hand_over, self.file(workload)))
        self._handed_over[workload.name] = time.time()

    async def rotate(self) -> list[str]:
        """Has OpenBao make the next version of each signing key, as an operator would; returns their names."""
        return await _blocking(self._rotate)

    async def keep_fresh(self) -> None:
        """Writes the files anew at half the life of what is in them, for ever, by the clock on the wall."""
        while True:
            await asyncio.sleep(LOOK_EVERY)
            for workload in self._workloads:
                if time.time() - self._handed_over.get(workload.name, 0.0) > SECRET_ID_SECONDS / 2:
                    with suppress(MeshError):  # OpenBao may be between two lives: the next round tries again
                        await self.hand_over(workload)

    def _rotate(self) -> list[str]:
        keys = sorted({each.service.transit for each in self._workloads if each.service.transit})
        client = self._openbao.client()
        for key in keys:
            client.secrets.transit.rotate_key(key, mount_point=MOUNT)
        return keys

    def _set_up(self) -> dict[str, str]:
        private_folder(self._folder)
        client = self._openbao.client()
        for workload in self._workloads:
            if (name := workload.service_name) not in self._roles and (key := workload.service.transit):
                role = SigningRole(client, name, key)
                role.set_up()
                self._roles[name] = role
        return {name: role.role_id() for name, role in self._roles.items()}


def _blocking[T](work: Callable[[], T]) -> Awaitable[T]:
    def careful() -> T:
        try:
            return work()
        except (hvac.exceptions.VaultError, requests.RequestException, OSError) as error:
            raise MeshError(f"OpenBao lets nobody sign: {error}") from error

    return asyncio.to_thread(careful)
