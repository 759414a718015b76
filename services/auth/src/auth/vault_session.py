"""A token of OpenBao or Vault that is kept good."""

import asyncio
import random
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from time import monotonic
from typing import Any, Final
from urllib.parse import urlsplit

import hvac
import requests
import structlog
from hvac.exceptions import VaultError
from pydantic import SecretStr

from auth.vault_door import REFUSALS, Door, Lease, VaultRefusedError
from grpc_common.errors import ExternalServiceError
from grpc_common.loopback import is_loopback

RENEW_AT: Final = 2 / 3
"""Of the life of a token."""
WHOLE: Final = 0.9
"""Of the life that it had at first: what is less was cut short."""
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 5.0
"""Seconds between two tries while it does not work; each failure that follows doubles them."""
FORBIDDEN: Final = 403
NO_PROXY: Final = {"http": "", "https": ""}
"""What has requests look for no others in the environment."""
LOG_OUT_WITHIN: Final = 1.0


class VaultSession:
    """A client with a good token: renewed before it ends, and got anew when it is not good any more.

    That is seen at once, by the refusal that anybody gets who uses the client. `timeout` is what one login may take.
    """

    def __init__(self, url: str, door: Door, timeout: float) -> None:
        self.client: Final = _client(url, timeout)
        self.client.session.hooks["response"].append(self._look_at)
        self._desk = _client(url, timeout).adapter
        self._door = door
        self._timeout = timeout
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="vault-login")
        self._loop = asyncio.get_running_loop()
        self._doubt = asyncio.Event()
        self._whole = 0.0
        self._lease = Lease(SecretStr(""), 0, renewable=False)
        self._log = structlog.get_logger(component="vault login")
        self._told = ""

    async def log_in(self) -> None:
        """Get a new token; raise VaultRefusedError or ExternalServiceError, and leave the token as it is."""
        self._take(await self._in_thread(lambda: self._door.enter(self._asking())))
        self._whole = self._lease.seconds
        self._log.info("logged in to OpenBao", lease_seconds=self._whole, renewable=self._lease.renewable)

    async def keep(self) -> None:
        """Keep the token good, for ever."""
        pause, wait = FIRST_PAUSE, self._until_renewal()
        while True:
            await self._doubted_within(wait)
            try:
                await self._prolong()
            except ExternalServiceError as error:
                self._tell(error)
                wait, pause = pause, min(pause * 2, LONGEST_PAUSE)
            else:
                self._told = ""
                pause, wait = FIRST_PAUSE, self._until_renewal()

    async def close(self) -> None:
        """Give the token back, if OpenBao takes it at once."""
        token = self.client.token
        if token:
            try:
                async with asyncio.timeout(LOG_OUT_WITHIN):
                    await self._in_thread(
                        lambda: self._asking(LOG_OUT_WITHIN)("auth/token/revoke-self", {}, token=token)
                    )
            except (ExternalServiceError, TimeoutError, *REFUSALS):
                self._log.info("the token of OpenBao was not given back, and ends by itself")
        self.client.token = ""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self.client.adapter.close()
        self._desk.close()

    async def _prolong(self) -> None:
        """Renew the token; get a new one when that cannot be, or soon cannot be any more."""
        lease = await self._renewed() if self._lease.renewable else None
        if lease is None:
            await self.log_in()
            return
        self._take(lease)
        if lease.seconds < self._whole * WHOLE:  # its longest life is nearly over
            await self.log_in()

    async def _renewed(self) -> Lease | None:
        token = self.client.token
        try:
            return await self._in_thread(lambda: Lease.of(self._asking()("auth/token/renew-self", {}, token=token)))
        except REFUSALS:
            return None

    def _take(self, lease: Lease) -> None:
        self._lease = lease
        self.client.token = lease.token.get_secret_value()

    def _until_renewal(self) -> float | None:
        seconds = self._lease.seconds
        return seconds * RENEW_AT * random.uniform(0.9, 1) if seconds else None  # noqa: S311  # replicas need not meet

    async def _doubted_within(self, wait: float | None) -> None:
        """Wait until it is time, or somebody was refused; but not less than a pause."""
        least = FIRST_PAUSE if wait is None else min(wait, FIRST_PAUSE)
        await asyncio.sleep(least)
        try:
            async with asyncio.timeout(None if wait is None else wait - least):
                await self._doubt.wait()
        except TimeoutError:
            pass
        self._doubt.clear()

    def _look_at(self, response: requests.Response, *_: Any, **__: Any) -> None:
        if response.status_code == FORBIDDEN and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._doubt.set)

    def _tell(self, error: ExternalServiceError) -> None:
        if error.message == self._told:
            return
        self._told = error.message
        tell = self._log.error if isinstance(error, VaultRefusedError) else self._log.warning
        tell("not logged in to OpenBao", reason=error.message)

    def _asking(self, within: float | None = None) -> Callable[..., Mapping[str, Any]]:
        """How the door asks, in the time that all its questions may take together."""
        give_up = monotonic() + (within or self._timeout)

        def ask(path: str, body: Mapping[str, Any], token: str = "") -> Mapping[str, Any]:
            headers = {"X-Vault-Token": token} if token else None
            left = max(0.01, give_up - monotonic())
            answer = self._desk.post(f"/v1/{path}", json=body, headers=headers, timeout=left)
            return answer if isinstance(answer, dict) else {}

        return ask

    async def _in_thread[T](self, work: Callable[[], T]) -> T:
        try:
            return await self._loop.run_in_executor(self._threads, work)
        except (ExternalServiceError, *REFUSALS):
            raise
        except (VaultError, requests.RequestException) as error:
            raise ExternalServiceError(f"OpenBao is away ({type(error).__name__})") from None
        except (KeyError, TypeError, ValueError):
            raise ExternalServiceError("what answers in the place of OpenBao does not answer as it does") from None


def _client(url: str, timeout: float) -> hvac.Client:
    local = is_loopback(urlsplit(url).hostname or "")
    # Without a token given, hvac would take one from the environment or from the home.
    return hvac.Client(url=url, token="", timeout=timeout, proxies=NO_PROXY if local else None)
