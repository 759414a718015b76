"""Ports are given out once."""

import os
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from localmesh import ports

MANY = 400
ASK = f"""
import sys
from localmesh import ports
ports.FIRST, ports.LAST = 30_000, 30_999
print(*[ports.free_port() for _ in range({MANY})], flush=True)
sys.stdin.read()  # holds what it has been given
"""


def _ask() -> subprocess.Popen[str]:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-c", ASK], env={"PYTHONPATH": ":".join(sys.path)}, **pipes)  # noqa: S603


def test_two_meshes_that_start_at_once_are_never_given_the_same_port():
    with _ask() as one, _ask() as other:
        with ThreadPoolExecutor() as pool:
            lines = pool.map(lambda each: each.stdout.readline(), (one, other))
        given = [port for line in lines for port in map(int, line.split())]
        for each in (one, other):
            each.communicate()
    assert len(given) == 2 * MANY
    assert len(set(given)) == 2 * MANY


def _as_nobody(port: int) -> str | None:
    """What an ordinary user is told."""
    if os.geteuid() != 0:
        return ports.obstacle(port)
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        os.setuid(65_534)
        os.write(writing, (ports.obstacle(port) or "").encode())
        os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with os.fdopen(reading) as told:
        return told.read() or None


def test_a_port_that_is_for_root_only_is_told_from_one_that_is_taken():
    first = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
    for_root = int(first.read_text()) if first.is_file() else 1024
    told = _as_nobody(443)
    assert (told == "is one that this system gives to root only:") == (for_root > 443)
    with socket.create_server((ports.LOOPBACK, 0)) as taken:
        number = taken.getsockname()[1]
        assert _as_nobody(number).startswith("is taken by ")
        assert ports.is_taken(number)
    assert _as_nobody(number) is None
    assert not ports.is_taken(number)


def test_a_port_may_be_given_again_when_its_process_is_over():
    for _ in range(4):  # of a thousand ports
        with _ask() as process:
            assert len(process.communicate()[0].split()) == MANY
