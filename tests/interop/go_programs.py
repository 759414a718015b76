"""Programs of others, in Go, built from the versions and checksums in 3rdparty/go."""

import os
import shutil
import subprocess
from pathlib import Path

SOURCES = Path("3rdparty/go")
BUILT_WITHIN = 540
"""Seconds: the first build on a machine fetches and compiles for more than a minute on two cores."""


def build(folder: Path) -> Path:
    """Build grpcurl, grpc-health-probe and gRPC's interop `client` into `folder` and return it."""
    go = shutil.which("go")
    assert go is not None, "these tests need Go: install it, or run `./pants`, which leaves them out"
    for name in ("go.mod", "go.sum"):
        shutil.copy(SOURCES / name, folder)
    env = os.environ | {"GOFLAGS": f"{os.environ.get('GOFLAGS', '')} -mod=readonly".strip()}
    command = [go, "build", "-o", f"{folder}/", "tool"]
    subprocess.run(command, cwd=folder, env=env, check=True, timeout=BUILT_WITHIN)  # noqa: S603
    return folder
