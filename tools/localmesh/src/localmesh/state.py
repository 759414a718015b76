"""The state folder of a mesh, and the lock that only one running mesh can hold."""

import contextlib
import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from localmesh import places, topology
from localmesh.failure import MeshError
from localmesh.files import folder_id, private_folder, write_atomically
from localmesh.ledger import Ledger

IN_THE_TREE = topology.IN_THE_TREE.parents[1] / ".mesh"
"""The folder when none is named."""
LOCK_TRIES_FOR = 0.5
"""Seconds: somebody who only looks holds the lock for a moment."""


class AlreadyRunning(MeshError):  # noqa: N818 - a state of things, said as it is
    """Another mesh holds the folder."""


class StateFolder:
    """Everything a mesh keeps, and where. Nothing but the lock is made before `lock`."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self.logs = self.root / "logs"
        self.envoy = self.root / "envoy"
        self.certificates = self.root / "certificates"
        self.secrets = self.root / "secrets"
        self.kept_secrets = self.root / "kept-secrets"
        self.postgres = self.root / "postgres"
        self.openbao = self.root / "openbao"
        self.valkey = self.root / "valkey"
        self.ca = self.root / "ca.pem"
        self.status = self.root / "status.json"
        self.deaths = self.root / "deaths.json"
        self._lock = self.root / "lock"
        self._processes = self.root / "processes.json"
        self._sockets = self.root / "sockets"
        self._handle: int | None = None

    def log(self, name: str) -> Path:
        """The log file of a process."""
        return self.logs / f"{name}.log"

    def kept_secret(self, service: str, setting: str) -> Path:
        """The file with a secret that a service has as long as its database."""
        return self.kept_secrets / service / setting.lower()

    @contextmanager
    def lock(self, *, wipe: bool = False) -> Iterator[Ledger]:
        """Holds the folder; ends what a mesh that died has left in it, and makes its folders anew.

        With `wipe` nothing of what was there before is kept.
        """
        with self._held(wipe=wipe):
            self._clean(wipe=wipe)
            yield Ledger(self._processes)

    def holder(self) -> int | None:
        """The process id of the mesh that holds the folder; `None` when none does."""
        try:
            handle = os.open(self._lock, os.O_RDONLY)
        except OSError:
            return None
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            with contextlib.suppress(ValueError):
                pid, *folder = map(int, os.pread(handle, 96, 0).split())
                return pid if folder in ([], folder_id(self.root)) else None  # [] is of an older version
            return None
        finally:
            os.close(handle)
        return None

    def is_lost(self) -> bool:
        """Whether the folder that we hold was removed or moved, and perhaps another one stands in its place."""
        try:
            return self._handle is not None and not os.path.samestat(os.fstat(self._handle), self._lock.stat())
        except OSError:
            return True

    def unwritable(self, error: OSError) -> MeshError:
        """What to say when the folder refuses a write."""
        return MeshError(
            f"cannot write to the state folder {self.root}: {error.strerror}; MESHWORK_STATE can name another"
        )

    def check_ours(self, *, wipe: bool = False) -> None:
        """Raises `MeshError` where a mesh would remove what is none's: in a folder that no mesh has held before."""
        if self._lock.exists() or not self.root.is_dir():
            return
        removed = {path.name for path in (self.logs, self.certificates, self.secrets, self.status, self.deaths)}
        found = sorted(path.name for path in self.root.iterdir() if wipe or path.name in removed)
        if found:
            raise MeshError(
                f"{self.root} is not the state folder of a mesh, and a mesh would remove {', '.join(found[:5])}"
                f"{' and more' if len(found) > 5 else ''} in it; name a new or an empty folder"
            )

    def sockets(self) -> Path:
        """The folder for Unix sockets, outside of the state folder: where a mesh has them, whatever TMPDIR is now."""
        with contextlib.suppress(OSError):
            if places.is_sockets_folder(noted := Path(self._sockets.read_text()), self.root):
                return noted
        return places.sockets_folder(self.root)

    @property
    def control(self) -> Path:
        """The socket by which a running mesh is asked to do something."""
        return self.sockets() / "control.sock"

    def leave(self) -> None:
        """Removes what has no meaning once the mesh is down: the secrets first, whatever becomes of the rest.

        Where another folder has taken the place of the one that we hold, all that is another mesh's.
        """
        if self.is_lost() and self._lock.exists():
            return
        shutil.rmtree(self.secrets, ignore_errors=True)
        shutil.rmtree(self.sockets(), ignore_errors=True)
        self._sockets.unlink(missing_ok=True)
        self.status.unlink(missing_ok=True)
        self.deaths.unlink(missing_ok=True)

    def end_leftovers(self) -> list[str]:
        """Ends the processes of a mesh that died without doing so itself; returns their names."""
        if not self._processes.exists():
            return []
        with self._held():
            ended = Ledger(self._processes).end_leftovers()
            self.leave()
        return ended

    def _wipe(self) -> None:
        for path in self.root.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path != self._lock:
                path.unlink()

    @contextmanager
    def _held(self, *, wipe: bool = False) -> Iterator[None]:
        try:
            self.check_ours(wipe=wipe)
            self.root.mkdir(parents=True, exist_ok=True)
            handle = os.open(self._lock, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise self.unwritable(error) from error
        try:
            ours = folder_id(self.root)
            if os.fstat(handle).st_nlink > 1 and list(map(int, os.pread(handle, 96, 0).split()))[1:] != ours:
                raise MeshError(
                    f"{self.root} is a copy by hard links, whose files are another mesh's: copy the content"
                )
            if not _try_lock(handle):
                raise AlreadyRunning(f"a mesh is already up in {self.root} (pid {self.holder() or 'unknown'})")
            os.ftruncate(handle, 0)
            os.pwrite(handle, " ".join(map(str, [os.getpid(), *ours])).encode(), 0)
            self._handle = handle
            yield
        finally:
            self._handle = None
            os.close(handle)

    def _clean(self, *, wipe: bool) -> None:
        Ledger(self._processes).end_leftovers()
        try:
            self.leave()
            if wipe:
                self._wipe()
            for folder in (self.logs, self.certificates):  # new ones come; a copied folder may have files for links
                shutil.rmtree(folder, ignore_errors=True)
            for folder in (self.logs, self.envoy, self.certificates, self.secrets):
                private_folder(folder)
            write_atomically(self._sockets, str(self.sockets()))
        except OSError as error:
            raise self.unwritable(error) from error


def _try_lock(handle: int) -> bool:
    give_up = time.monotonic() + LOCK_TRIES_FOR
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > give_up:
                return False
            time.sleep(0.02)
        else:
            return True
