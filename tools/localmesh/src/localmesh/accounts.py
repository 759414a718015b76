"""The operating-system account for what refuses to run as root."""

import os
import pwd
from dataclasses import dataclass

from localmesh.failure import MeshError

CANDIDATES = ("postgres", "nobody")


@dataclass(frozen=True)
class Account:
    """An account of this machine, by its numbers."""

    name: str
    uid: int
    gid: int


def unprivileged() -> Account | None:
    """The account PostgreSQL runs as: `None`, our own, unless we are root."""
    if os.geteuid() != 0:
        return None
    for name in CANDIDATES:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)
    raise MeshError(f"PostgreSQL refuses to run as root and this machine has none of the users {', '.join(CANDIDATES)}")
