"""What a running Envoy is asked and told through its admin port."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any

import httpx

from localmesh import ports
from localmesh.failure import MeshError

ASK_EVERY = 0.05
ANSWER_WITHIN = 2.0


class Admin:
    """The admin interface on a port of the loopback address; what cannot be reached raises `httpx.HTTPError`."""

    def __init__(self, port: int) -> None:
        self._base = f"http://{ports.LOOPBACK}:{port}"

    async def fail_health(self) -> None:
        """Lets it answer for itself that it is not to be called any more."""
        await self._post("/healthcheck/fail")

    async def pass_health(self) -> None:
        """Takes `fail_health` back."""
        await self._post("/healthcheck/ok")

    async def drain(self) -> None:
        """Takes no new connections, and asks those there are to go elsewhere (GOAWAY)."""
        await self._post("/drain_listeners?graceful")

    async def calls(self, listeners: Iterable[str] = ("inbound", "outbound", "ingress")) -> int:
        """How many calls are under way."""
        text = (await self._get(f"/stats?filter=^http\\.({'|'.join(listeners)})\\.downstream_rq_active$")).text
        return sum(int(line.rpartition(" ")[2]) for line in text.splitlines() if line)

    async def usable(self, cluster: str, port: int) -> bool:
        """Whether it would send calls of a cluster to a port of the loopback address."""
        for status in (await self._get("/clusters?format=json")).json().get("cluster_statuses", []):
            if status["name"] == cluster:
                for host in status.get("host_statuses", []):
                    if host["address"].get("socket_address", {}).get("port_value") == port:
                        health = dict(host["health_status"])
                        return not any(value for name, value in health.items() if name != "eds_health_status")
        return False

    async def trusts(self, serial: str) -> bool:
        """Whether a root with this serial number (hexadecimal, no leading zeros) is trusted on every connection."""
        bundles = [each["ca_cert"] for each in await self._certificates() if each.get("ca_cert")]
        return all(any(_serial(ca) == serial for ca in bundle) for bundle in bundles)

    async def _certificates(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await self._get("/certs")).json().get("certificates", [])
        return found

    async def _post(self, path: str) -> None:
        async with _client() as client:
            (await client.post(self._base + path)).raise_for_status()

    async def _get(self, path: str) -> httpx.Response:
        async with _client() as client:
            return (await client.get(self._base + path)).raise_for_status()


def _client() -> httpx.AsyncClient:
    return httpx.AsyncClient(timeout=ANSWER_WITHIN, trust_env=False)  # by no proxy


async def until(condition: Callable[[], Awaitable[bool]], within: float, otherwise: str) -> None:
    """Returns once the condition holds; raises `MeshError` with the sentence `otherwise` when it does not in time."""
    give_up = time.monotonic() + within
    while not await _holds(condition):
        if time.monotonic() > give_up:
            raise MeshError(otherwise)
        await asyncio.sleep(ASK_EVERY)


async def _holds(condition: Callable[[], Awaitable[bool]]) -> bool:
    try:
        return await condition()
    except httpx.HTTPError:
        return False


def _serial(certificate: dict[str, Any]) -> str:
    return str(certificate["serial_number"]).lstrip("0").lower()


def serials(pem: str) -> Iterator[str]:
    """The serial numbers of certificates (PEM), as Envoy writes them."""
    from cryptography import x509

    for certificate in x509.load_pem_x509_certificates(pem.encode()):
        yield f"{certificate.serial_number:x}"
