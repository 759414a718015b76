"""The environment variables `./mesh` itself knows."""

import difflib
import os
from collections.abc import Mapping
from pathlib import Path

from localmesh.failure import UsageError

STATE = "MESHWORK_STATE"
KNOWN = (STATE, "MESHWORK_PYTHON")
ALIKE = 0.8


def state_folder(default: Path, environ: Mapping[str, str] = os.environ) -> Path:
    """Where the state stands; raises `UsageError` for a variable that looks like a misspelt one of ours."""
    for name in environ:
        close = difflib.get_close_matches(name, KNOWN, n=1, cutoff=ALIKE)
        if close and name not in KNOWN:
            raise UsageError(f"{name} is set, which is no variable of the mesh; did you mean {close[0]}?")
    return Path(environ.get(STATE) or default)
