"""Where things stand outside of the state folder, and why they must."""

import hashlib
import os
import shutil
import stat
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from localmesh.failure import MeshError
from localmesh.files import folder_id

ROOT_CACHE = Path("/var/cache/meshwork")
OWNER, OWNER_ID = "owner", "owner-id"
SHORT_TMP = Path("/tmp")  # noqa: S108 - only a private folder is made in it
LONGEST_SOCKET = len("-9-outbound.sock") + 40
"""How long the name of a socket may be: 40 is the longest name of a service."""
LONGEST_PATH = (104 if sys.platform == "darwin" else 108) - 1
"""Of a Unix socket, in bytes: `sun_path` ends with a zero."""


def short_name(folder: Path) -> str:
    """A name for a folder that is short and like no other's."""
    return hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:12]


def sockets_folder(state: Path) -> Path:
    """A private folder for Unix sockets, whose paths must be short: a state folder's may be long, and TMPDIR's."""
    temporary = Path(tempfile.gettempdir())
    for parent in (temporary, SHORT_TMP):
        folder = parent / _sockets_name(state)
        if len(os.fsencode(folder)) + 1 + LONGEST_SOCKET <= LONGEST_PATH:
            with suppress(OSError):
                _make_own(folder, 0o700)
                return folder
    raise MeshError(
        f"no place for Unix sockets: neither {temporary} nor {SHORT_TMP} can be written and is short enough (a path "
        f"of {LONGEST_PATH} bytes, of which {LONGEST_SOCKET} are the name); set TMPDIR to a folder with a shorter path"
    )


def is_sockets_folder(folder: Path, state: Path) -> bool:
    """Whether that is one that `sockets_folder` would make, with whatever TMPDIR; not one of a copied state folder."""
    return folder.name == _sockets_name(state) and folder.is_dir() and not folder.is_symlink()


def reachable_folder() -> Path:
    """As root: a folder another account can pass through, which the home of root is not."""
    for folder in (ROOT_CACHE, Path(tempfile.gettempdir()) / "meshwork-cache"):
        with suppress(OSError):
            folder.parent.mkdir(parents=True, exist_ok=True)
            _make_own(folder, 0o711)
            return folder
    raise MeshError(f"neither {ROOT_CACHE} nor a folder in {tempfile.gettempdir()} can be written")


def reachable_home(owner: Path) -> Path:
    """As root: a folder in `reachable_folder()` for what belongs into `owner`; those of owners now gone are removed.

    An `owner` that was moved takes its own with it.
    """
    everything = reachable_folder()
    home = everything / short_name(owner)
    number = " ".join(map(str, folder_id(owner)))
    for noted in everything.glob(f"*/{OWNER_ID}"):
        with suppress(OSError):
            note = noted.with_name(OWNER)
            if noted.read_text() == number and not home.exists() and not Path(note.read_text()).is_dir():
                noted.parent.rename(home)
                (home / OWNER).write_text(
                    str(owner.resolve())
                )  # at once, lest it be taken for one of an owner now gone
    for note in everything.glob(f"*/{OWNER}"):
        with suppress(OSError):
            if not Path(note.read_text()).is_dir():
                shutil.rmtree(note.parent)
    home.mkdir(exist_ok=True)
    home.chmod(0o711)  # whatever the umask is
    (home / OWNER).write_text(str(owner.resolve()))
    (home / OWNER_ID).write_text(number)
    return home


def copy_for_everybody(source: Path, names: tuple[str, ...], target: Path) -> Path:
    """Copies folders of `source` once, readable by every account, writable by none but ours; all or nothing."""
    if target.is_dir():
        return target
    unfinished = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        for name in filter(lambda name: (source / name).is_dir(), names):
            shutil.copytree(source / name, unfinished / name, symlinks=True)
        for path in (unfinished, *unfinished.rglob("*")):
            if not path.is_symlink():
                executable = path.is_dir() or path.stat().st_mode & stat.S_IXUSR
                path.chmod(0o755 if executable else 0o644)
        with suppress(OSError):  # another process was faster: its copy is as good
            unfinished.rename(target)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return target


def _sockets_name(state: Path) -> str:
    return f"meshwork-{os.geteuid()}-{short_name(state)}"


def _make_own(folder: Path, mode: int) -> None:
    """Makes a folder under a name others could have taken, and refuses it when they have."""
    with suppress(FileExistsError):
        folder.mkdir(mode=mode)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise MeshError(f"{folder} belongs to somebody else; remove it or set TMPDIR to a folder of your own")
    folder.chmod(mode)
