"""The status a local HTTP server answers with, without a client library."""

import asyncio
import contextlib

from localmesh import ports


async def http_status(port: int, path: str) -> int:
    """The status of `GET path` on a port of the loopback address; raises `OSError` where nobody answers."""
    reader, writer = await asyncio.open_connection(ports.LOOPBACK, port)
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nhost: {ports.LOOPBACK}\r\nconnection: close\r\n\r\n".encode())
        status_line = (await reader.readline()).split()
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
    if len(status_line) < 2 or not status_line[1].isdigit():
        raise ConnectionError(f"port {port} does not speak HTTP")
    return int(status_line[1])
