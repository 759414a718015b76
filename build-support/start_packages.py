"""Starts each service that `./pants package ::` has made once, on its embedded default, asks it for its
health over gRPC, and stops it. Fails when one does not start, is not healthy, or does not end by itself.

usage: "$(build-support/python-env mesh)" build-support/start_packages.py
"""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

PACKAGES = Path("dist/services")
WITHIN = 120.0
"""Seconds, for each of start, health and end; a first start unpacks the package."""
SERVING = health_pb2.HealthCheckResponse.SERVING


def environment(name: str, home: Path) -> dict[str, str]:
    """Nothing of the caller's but where programs are; ports that are free now, which auth's issuer is told by."""
    prefix = name.replace("-", "_").upper()
    ports = {f"{prefix}_{server}__PORT": str(free_port()) for server in ("GRPC", "HTTP")}
    return {"PATH": os.environ["PATH"], "HOME": str(home), "PEX_ROOT": str(home / "pex"), **ports}


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def target(log: Path) -> str:
    """Where the service says in its log that it listens; empty as long as it does not."""
    for line in log.read_text().splitlines():
        said = json.loads(line) if line.startswith("{") else {}
        if said.get("event") == "serving":
            return str(said["target"])
    return ""


def tried(package: Path) -> str:
    """What is wrong with the package; empty where nothing is."""
    with tempfile.TemporaryDirectory() as folder:
        home, log = Path(folder), Path(folder) / "log"
        with log.open("w") as output:
            process = subprocess.Popen(  # noqa: S603
                [sys.executable, str(package.absolute())],
                cwd=home,
                env=environment(package.stem, home),
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            wrong = judged(process, log)
        finally:
            process.kill()
            process.wait()
        return f"{package}: {wrong}\n{log.read_text()}" if wrong else ""


def judged(process: "subprocess.Popen[bytes]", log: Path) -> str:
    give_up = time.monotonic() + WITHIN
    while not (address := target(log)):
        if process.poll() is not None:
            return f"ended with status {process.returncode} before it served"
        if time.monotonic() > give_up:
            return f"does not serve after {WITHIN:.0f} s"
        time.sleep(0.1)
    with grpc.insecure_channel(address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        while (status := health.Check(health_pb2.HealthCheckRequest(), timeout=WITHIN).status) != SERVING:
            if time.monotonic() > give_up:
                return f"its health is {health_pb2.HealthCheckResponse.ServingStatus.Name(status)}"
            time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    try:
        status = process.wait(WITHIN)
    except subprocess.TimeoutExpired:
        return f"does not end within {WITHIN:.0f} s of SIGTERM"
    return f"ended with status {status} after SIGTERM" if status else ""


def main() -> int:
    packages = sorted(PACKAGES.glob("*.pex"))
    services = sorted(path.parent.name for path in Path("services").glob("*/BUILD"))
    if missing := set(services) - {package.stem for package in packages}:
        print(f"No package of {', '.join(sorted(missing))} in {PACKAGES}: run ./pants package ::", file=sys.stderr)
        return 1
    wrong = list(filter(None, map(tried, packages)))
    print(*wrong, sep="\n", file=sys.stderr, end="")
    print(f"{len(packages) - len(wrong)} of {len(packages)} packaged services start, are healthy and end.")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
