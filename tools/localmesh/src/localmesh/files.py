"""Files written so that a reader sees the old or the new content, and secrets so that nobody else reads them."""

import os
import secrets
from pathlib import Path


def write_atomically(path: Path, content: str | bytes, *, mode: int = 0o644) -> None:
    """Writes under another name and renames; the file has `mode` from its first byte on.

    Raises OSError when the system refuses, for want of room for example, and leaves the old content and nothing else.
    """
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    unfinished.unlink(missing_ok=True)
    handle = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
        unfinished.rename(path)
    except OSError:
        unfinished.unlink(missing_ok=True)
        raise


def write_secret(path: Path, content: str | bytes) -> None:
    """Writes a file only its owner may read."""
    write_atomically(path, content, mode=0o600)


def keep_secret(path: Path) -> str:
    """The secret in a file: 32 random bytes in hexadecimal digits, made the first time."""
    if not path.is_file():
        private_folder(path.parent)
        write_secret(path, secrets.token_hex(32))
    return path.read_text()


def private_folder(path: Path) -> Path:
    """Makes a folder (and its parents) only its owner may enter."""
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.chmod(0o700)
    return path


def folder_id(path: Path) -> list[int]:
    """What tells a folder from its copies: its device and its number there, which it keeps when it is moved."""
    found = path.stat()
    return [found.st_dev, found.st_ino]
