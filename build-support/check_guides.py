"""Checks that the Python code of the guides and READMEs is typed as it stands there: mypy --strict, as all our code.

usage: "$(build-support/python-env mypy)" build-support/check_guides.py [PYTHON] [FILE...]

PYTHON is an interpreter that has the packages the code imports; without it, the one that runs this. The blocks of a
file are read as one program, one after the other. What its reader has at that point, such as imports not worth showing,
is in `guide_names/`, in a file of the guide's name. Errors name the lines of the guide.
"""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent
GUIDES = ("README.md", "docs/**/*.md", "libs/*/README.md", "services/*/README.md", "tools/*/README.md")
SOURCES = ("protos/gen/python", "libs/*/src", "services/*/src", "tools/*/src")
NAMES = Path(__file__).parent / "guide_names"
BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)


def program(text: str, names: str) -> str:
    """Returns the code of a guide, each line where it stands in the guide, then `names`; "" where there is no code."""
    lines = [""] * (text.count("\n") + 1)
    yields = False
    for block in BLOCK.finditer(text):
        yields = yields or re.search("^yield ", block[1], re.MULTILINE) is not None
        for place, line in enumerate(block[1].splitlines(), text[: block.start(1)].count("\n")):
            lines[place] = f"    {line}" if line else ""
    if not any(lines):
        return ""
    if lines[0]:
        raise SystemExit("a guide begins with its title")
    # A function's body may use names that its module has further down, so that they take no lines of the guide.
    lines[0] = f"async def guide() -> {'object' if yields else 'None'}:"
    return "\n".join((*lines, names))


def names_of(guide: Path) -> str:
    """Returns what the reader of a guide has; for docs/guides/grpc-usage.md it is in docs_guides_grpc_usage.py."""
    found = NAMES / re.sub(r"\W", "_", str(guide.relative_to(ROOT).with_suffix("")).lower())
    return found.with_suffix(".py").read_text() if found.with_suffix(".py").exists() else ""


def guides() -> Iterator[Path]:
    """Gives every file that may have code."""
    for pattern in GUIDES:
        yield from sorted(ROOT.glob(pattern))


def main(python: str, files: Sequence[Path]) -> int:
    """Checks the code of `files` and says how much it was."""
    with tempfile.TemporaryDirectory() as folder:
        programs = {}
        for number, file in enumerate(files):
            if code := program(file.read_text(), names_of(file)):
                place = Path(folder, f"guide_{number}.py")
                place.write_text(code)
                programs[place] = file.relative_to(ROOT)
        if not programs:
            raise SystemExit("no guide has any code: has a folder moved?")
        command = (sys.executable, "-m", "mypy", "--config-file", "pyproject.toml", "--python-executable", python)
        found = subprocess.run(  # noqa: S603  # all of it is ours
            [*command, "--cache-dir", ".mesh/mypy-guides", "--no-error-summary", *map(str, programs)],
            env=os.environ | {"MYPYPATH": ":".join(str(path) for each in SOURCES for path in ROOT.glob(each))},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
    told = found.stdout + found.stderr
    for place, guide in programs.items():
        told = told.replace(os.path.relpath(place, ROOT), str(guide)).replace(str(place), str(guide))
    print(told, end="")
    print(f"{len(programs)} guides with code were checked.")
    return found.returncode


if __name__ == "__main__":
    asked = sys.argv[1:]
    sys.exit(
        main(asked[0] if asked else sys.executable, [Path(each).absolute() for each in asked[1:]] or list(guides()))
    )
