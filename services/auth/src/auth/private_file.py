"""Files that nobody but their owner may read, and that are there whole or not at all."""

import os
import secrets
import stat
from collections.abc import Callable
from pathlib import Path


def read_private(path: Path) -> str:
    """Return what the file holds; raise PermissionError when others may read it, or might have."""
    with path.open() as file:
        if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
            raise PermissionError(f"others may read {path}")
        return file.read()


def make_private(path: Path, text: str) -> None:
    """Write a file that is not there yet; what another process has put there meanwhile stays."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    _write(path, text, _link)


def replace_private(path: Path, text: str) -> None:
    """Write a file in place of what is there."""
    _write(path, text, Path.rename)


def _write(path: Path, text: str, put: Callable[[Path, Path], object]) -> None:
    """Write a new file beside the old one and `put` it in its place whole."""
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        put(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def _link(made: Path, path: Path) -> None:
    """Unlike a rename, it does not replace what is there."""
    try:
        path.hardlink_to(made)
    except FileExistsError:
        return
