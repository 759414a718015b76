"""Ports are given out once."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

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


def test_a_port_may_be_given_again_when_its_process_is_over():
    for _ in range(4):  # of a thousand ports
        with _ask() as process:
            assert len(process.communicate()[0].split()) == MANY
