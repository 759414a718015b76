"""The library as it was at an earlier commit, to compete with that of now in the same rounds."""

import os
import subprocess
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[3]


def tree_of(revision: str) -> Path:
    """Check `revision` out below .mesh/, once, and return where; raises ValueError where git does not know it."""
    try:
        commit = _git("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}")
    except subprocess.CalledProcessError as error:
        raise ValueError(f"git knows no commit {revision}") from error
    tree = ROOT / ".mesh" / "bench" / commit[:12]
    if not tree.exists():
        _git("worktree", "prune")
        _git("worktree", "add", "--quiet", "--detach", str(tree), commit)
    return tree


def environment(tree: Path | None) -> dict[str, str] | None:
    """Return the environment in which a process of a benchmark takes the library of `tree`; None: that of now."""
    if tree is None:
        return None
    library = [tree / "protos/gen/python", *sorted(tree.glob("libs/*/src"))]
    return os.environ | {"PYTHONPATH": os.pathsep.join(map(str, [ROOT / "bench/src", *library]))}


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=True)  # noqa: S603, S607
    return done.stdout.strip()
