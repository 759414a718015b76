"""Shows that no helper module of tests has the name of another, or of a package, and that it would be noticed.

Tests import their helpers by a bare name, such as `serving`. Where two folders have a module of that name, Pants gives
a test neither of them and pytest the first of its path: so a helper of one service breaks the tests of another.
"""

import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# The roots in pants.toml.
FOLDERS = (
    "libs/*/tests",
    "services/*/tests",
    "tools/*/tests",
    "tests/*",
    "libs/*/src",
    "services/*/src",
    "tools/*/src",
)


def helpers(root: Path) -> dict[str, list[Path]]:
    """The modules and packages that tests import by a bare name, each with the places that have one."""
    found: dict[str, list[Path]] = {}
    for pattern in FOLDERS:
        for folder in sorted(root.glob(pattern)):
            for path in sorted(folder.iterdir()):
                is_package = path.is_dir() and any(path.glob("*.py"))
                if path.suffix == ".py" or is_package:
                    name = path.name.removesuffix(".py")
                    if name != "conftest" and not name.startswith(("test_", "_")):
                        found.setdefault(name, []).append(path.relative_to(root))
    return found


def faults(root: Path) -> Iterable[str]:
    """A sentence for each name that is there twice."""
    for name, places in helpers(root).items():
        if len(places) > 1:
            yield f"{' and '.join(map(str, places))} are both imported as `{name}`: give one of them another name."


def notices() -> bool:
    """Whether a pair that clashes is found, in a tree made for that, and one that does not is let through."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        for path in ("services/a/tests/served.py", "services/b/tests/other.py", "services/b/tests/test_x.py"):
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).touch()
        clean = not list(faults(root))
        (root / "services/b/tests/served.py").touch()
        return clean and len(list(faults(root))) == 1


if __name__ == "__main__":
    if not notices():
        sys.exit("build-support/check_helper_names.py does not find what it looks for.")
    if problems := list(faults(ROOT)):
        sys.exit("\n".join(problems))
