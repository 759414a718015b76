"""How the service logs in to OpenBao or Vault, where its signing keys are."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Final

import hvac
from pydantic import SecretStr

from auth.vault_door import AppRoleDoor, Door, KubernetesDoor, VaultRefusedError
from auth.vault_session import FIRST_PAUSE, VaultSession
from grpc_common.background import background
from grpc_common.errors import ExternalServiceError

TIMEOUT: Final = 5.0
FINISH_WITHIN: Final = 30.0
"""Seconds to try again at the start with a secret id that is unwrapped already, and would be lost."""


@dataclass(frozen=True, slots=True)
class AppRole:
    """By an AppRole: its id, which is no secret, and a file with the wrapping token of a secret id. The file is removed
    when that has been unwrapped.
    """

    url: str
    role_id: SecretStr
    wrapped_secret_id: Path
    mount: str = "approle"


@dataclass(frozen=True, slots=True)
class Kubernetes:
    """As a pod of Kubernetes: the role, and the file with the token of the pod's service account."""

    url: str
    role: str
    token: Path
    mount: str = "kubernetes"


type VaultLogin = AppRole | Kubernetes


@asynccontextmanager
async def vault_client(login: VaultLogin, *, timeout: float = TIMEOUT) -> AsyncIterator[hvac.Client]:  # noqa: ASYNC109
    """Yield a client that is logged in. It renews its token, and logs in again when the token is not good any more.

    An AppRole's secret id that can be used once cannot be used for that: then the next one is awaited in the same file,
    and calls fail until it is there. A login takes `timeout` seconds at the most; at the end the token is given back.

    Raises:
        VaultRefusedError: OpenBao does not let us in; the message says what to do.
        ExternalServiceError: it cannot be reached.
    """
    door = _door(login)
    session = VaultSession(login.url, door, timeout)
    try:
        await _begin(session, door)
        async with background(session.keep()):
            yield session.client
    finally:
        await session.close()


def _door(login: VaultLogin) -> Door:
    match login:
        case AppRole():
            return AppRoleDoor(login.role_id, login.wrapped_secret_id, login.mount)
        case Kubernetes():
            return KubernetesDoor(login.role, login.token, login.mount)


async def _begin(session: VaultSession, door: Door) -> None:
    give_up = monotonic() + FINISH_WITHIN
    while True:
        try:
            return await session.log_in()
        except ExternalServiceError as error:
            if isinstance(error, VaultRefusedError) or not door.in_hand or monotonic() > give_up:
                raise
        await asyncio.sleep(FIRST_PAUSE)
