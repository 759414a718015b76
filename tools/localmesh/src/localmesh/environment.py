"""Environment variables: those `./mesh` itself knows, and those that what it starts is given."""

import difflib
import os
from collections.abc import Iterable, Mapping, MutableMapping
from pathlib import Path
from typing import TYPE_CHECKING

from localmesh.failure import UsageError

if TYPE_CHECKING:
    from localmesh.topology import Topology

STATE = "MESHWORK_STATE"
KNOWN = (STATE, "MESHWORK_PYTHON")
ALIKE = 0.8
HANDED_ON = frozenset({"HOME", "LANG", "LANGUAGE", "LOGNAME", "PATH", "TMPDIR", "TZ", "USER"})
LOCALE = "LC_"
TERMINAL = frozenset({"CLICOLOR", "COLORTERM", "COLUMNS", "FORCE_COLOR", "LINES", "NO_COLOR", "TERM"})
"""What a command that shows something wants to know besides."""


def state_folder(default: Path, environ: Mapping[str, str] = os.environ) -> Path:
    """Where the state stands; raises `UsageError` for a variable that looks like a misspelt one of ours."""
    for name in environ:
        close = difflib.get_close_matches(name, KNOWN, n=1, cutoff=ALIKE)
        if close and name not in KNOWN:
            raise UsageError(f"{name} is set, which is no variable of the mesh; did you mean {close[0]}?")
    return Path(environ.get(STATE) or default)


def handed_on(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What a process of the mesh is given of an environment: who we are, where programs stand, language and time zone.

    Anything else, such as a proxy, `PGSSLMODE` or `OTEL_SDK_DISABLED`, is meant for other programs.
    """
    return {name: value for name, value in environ.items() if name in HANDED_ON or name.startswith(LOCALE)}


def leave_rest(environ: MutableMapping[str, str] = os.environ) -> dict[str, str]:
    """Takes out of our own environment what libraries would find there and obey; returns what it was."""
    before = dict(environ)
    kept = handed_on(before) | {name: before[name] for name in TERMINAL & before.keys()}
    for name in before.keys() - kept.keys():
        del environ[name]
    return before


def asked_for(texts: Iterable[str], environ: Mapping[str, str]) -> dict[str, str]:
    """Reads `NAME=VALUE`, or `NAME` for what it is in the environment; raises `UsageError` where it is not."""
    asked = {}
    for text in texts:
        name, given, value = text.partition("=")
        if not name or (not given and name not in environ):
            raise UsageError(f"--env {text}: it is NAME=VALUE, or the NAME of a variable that is set")
        asked[name] = value if given else environ[name]
    return asked


def check_settings(names: Iterable[str], topology: "Topology") -> None:
    """Raises `UsageError` for variables that look like settings of the services, which do not get them."""
    found = sorted(name for name in names if topology.service_of(name) is not None)
    if found:
        wanted = " ".join(f"--env {name}" for name in found)
        raise UsageError(
            f"{', '.join(found)} {'is' if len(found) == 1 else 'are'} set, and the mesh gives services their settings "
            f"itself: unset what is not meant for it, or say {wanted}"
        )
