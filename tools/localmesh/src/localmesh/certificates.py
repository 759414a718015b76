"""Certificate files that are replaced all at once, in the form in which Kubernetes mounts a secret."""

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from localmesh.files import private_folder, write_secret

CURRENT = "..data"
FILES = ("tls.crt", "tls.key", "ca.crt")


@dataclass(frozen=True)
class Identity:
    """Who somebody is, as files: a certificate with its intermediates, its key, and the root to trust.

    `folder/tls.crt` is a link to `..data/tls.crt` and `..data` a link to the folder of one issue: a reader that
    follows the links sees files that belong together, and a watcher of `folder` sees one rename.
    """

    name: str
    folder: Path

    @property
    def certificate(self) -> Path:
        """The certificate and its intermediates (PEM)."""
        return self.folder / "tls.crt"

    @property
    def key(self) -> Path:
        """The private key (PEM)."""
        return self.folder / "tls.key"

    @property
    def ca(self) -> Path:
        """The root to trust (PEM)."""
        return self.folder / "ca.crt"

    def install(self, *, certificate: str, key: str, ca: str) -> None:
        """Puts new files in the place of the old ones."""
        private_folder(self.folder)
        issue = Path(tempfile.mkdtemp(prefix="..", dir=self.folder))
        for name, content in zip(FILES, (certificate, key, ca), strict=True):
            write_secret(issue / name, content)
        current = self.folder / CURRENT
        previous = current.readlink() if current.is_symlink() else None
        _link(current, Path(issue.name))
        for name in FILES:
            if not (self.folder / name).is_symlink():
                _link(self.folder / name, Path(CURRENT) / name)
        if previous is not None:
            shutil.rmtree(self.folder / previous, ignore_errors=True)


def _link(link: Path, target: Path) -> None:
    unfinished = link.with_name(f"{link.name}.{os.getpid()}")
    unfinished.unlink(missing_ok=True)
    unfinished.symlink_to(target)
    unfinished.rename(link)
