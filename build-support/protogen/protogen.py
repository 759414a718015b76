"""Generates the Python code of the protos, and checks the protos: style, breaking changes, drift.

`./pants run build-support:protogen` generates; `-- --check` changes nothing and fails when something is wrong;
`-- --accept` makes the protos as they are the baseline that later breaking changes are measured against.
"""

import argparse
import filecmp
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

BASELINE = Path("protos/baseline.binpb")
GENERATED = Path("protos/gen/python")


def run_buf(*arguments: str) -> bool:
    """Runs buf with the code generators of this environment on PATH. True when it is content."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    python_path = os.pathsep.join(sys.path)
    environment = {**os.environ, "PATH": path, "PYTHONPATH": python_path}
    buf = Path(sys.executable).parent / "buf"
    return subprocess.run([buf, *arguments], env=environment, check=False).returncode == 0  # noqa: S603  # our own words


def generate(output: Path = Path()) -> bool:
    """Writes the generated code below `output`, without the empty gRPC modules of protos that declare no service."""
    for package in ("buf", "meshwork"):
        shutil.rmtree(output / GENERATED / package, ignore_errors=True)
    if not run_buf("generate", "--output", str(output)):
        return False
    for path in (output / GENERATED).rglob("*_pb2_grpc.py*"):
        if "_service_pb2_grpc" not in path.name:
            path.unlink()
    return True


def breaks_callers() -> bool:
    """Whether the protos differ from the baseline in a way that existing callers notice."""
    with tempfile.TemporaryDirectory() as folder:
        image = str(Path(folder, "now.binpb"))
        return not (run_buf("build", "--output", image) and run_buf("breaking", image, "--against", str(BASELINE)))


def drift() -> list[str]:
    """The files below the generated folder that a fresh generation would add, change or remove."""
    with tempfile.TemporaryDirectory() as folder:
        if not generate(Path(folder)):
            return ["(generation failed)"]
        fresh = Path(folder, GENERATED)
        names = {
            str(path.relative_to(root))
            for root in (fresh, GENERATED)
            for path in root.rglob("*.py*")
            if path.suffix in {".py", ".pyi"}
        }
        return sorted(
            name
            for name in names
            if not ((fresh / name).is_file() and (GENERATED / name).is_file())
            or not filecmp.cmp(fresh / name, GENERATED / name, shallow=False)
        )


def check() -> bool:
    """Prints what is wrong, each with what to do."""
    good = run_buf("lint")
    if not run_buf("format", "--diff", "--exit-code", "--path", "protos/meshwork"):
        print("The protos are not formatted: ./pants run build-support:protogen -- --format", file=sys.stderr)
        good = False
    if breaks_callers():
        print("The protos break callers: add a field or a method, or make a v2 package.", file=sys.stderr)
        good = False
    for name in drift():
        print(f"{GENERATED / name} is not what the protos say: ./pants run build-support:protogen", file=sys.stderr)
        good = False
    return good


def main() -> int:
    parser = argparse.ArgumentParser(prog="protogen", description=__doc__)
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--check", action="store_true", help="check only")
    mode.add_argument("--format", action="store_true", help="format the protos")
    mode.add_argument("--accept", action="store_true", help="make the protos the baseline for breaking changes")
    arguments = parser.parse_args()
    if arguments.check:
        good = check()
    elif arguments.format:
        good = run_buf("format", "--write", "--path", "protos/meshwork")
    elif arguments.accept:
        good = run_buf("build", "--output", str(BASELINE))
    else:
        good = generate()
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
