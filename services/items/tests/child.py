"""Python processes for the tests to start and to kill."""

import os
import sys
from collections.abc import Mapping


def environment(**settings: str) -> Mapping[str, str]:
    """Returns an environment in which Python finds what it finds here, in whatever folder it is started."""
    return {"PATH": os.defpath, "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path)), **settings}
