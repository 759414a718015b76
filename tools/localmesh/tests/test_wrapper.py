"""`./mesh` finds its checkout from wherever it is called, and by whatever name."""

import os
import subprocess
from pathlib import Path

import pytest

from localmesh import topology

CHECKOUT = topology.IN_THE_TREE.parents[1]
PYTHON_ENV = "#!/bin/sh\necho echo\n"
"""In place of the interpreter a program that says what it was to run."""


@pytest.fixture
def parent(tmp_path):
    """A folder with a checkout in it, a link to its command, and another folder of the checkout's name elsewhere."""
    checkout = tmp_path / "parent" / "checkout"
    (checkout / "build-support").mkdir(parents=True)
    (checkout / "mesh").write_bytes((CHECKOUT / "mesh").read_bytes())
    (checkout / "build-support" / "python-env").write_text(PYTHON_ENV)
    for program in (checkout / "mesh", checkout / "build-support" / "python-env"):
        program.chmod(0o755)
    (tmp_path / "parent" / "bin").mkdir()
    (tmp_path / "parent" / "bin" / "mesh").symlink_to("../checkout/mesh")
    (tmp_path / "elsewhere" / "checkout").mkdir(parents=True)
    return tmp_path / "parent"


@pytest.mark.parametrize("command", ["checkout/mesh", "bin/mesh", "./bin/../checkout/mesh"])
@pytest.mark.parametrize("cdpath", [None, ".", "../elsewhere"])
def test_it_finds_its_checkout(parent: Path, command: str, cdpath: str | None):
    environ = {"PATH": os.defpath} | ({} if cdpath is None else {"CDPATH": cdpath})
    argv = ["/usr/bin/env", "bash", command, "status"]
    ended = subprocess.run(argv, cwd=parent, env=environ, capture_output=True, text=True)  # noqa: S603
    assert (ended.stdout, ended.stderr, ended.returncode) == ("-m localmesh status\n", "", 0)
