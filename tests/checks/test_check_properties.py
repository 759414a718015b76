"""The check of the specification's properties fails for each way in which one may lack its test."""

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

CHECK = Path("build-support/check_properties.py").absolute()
DUE = runpy.run_path(str(CHECK))["DUE"]
TESTS = Path("libs/a/tests/test_all.py")


def property_test(feature: str, number: int, title: str) -> str:
    return f'''
@settings(max_examples=100)
@given(some=values)
def test_{re.sub(r"[^a-z]", "_", feature)}_{number}(some):
    """**Feature: {feature}, Property {number}: {title}**"""
'''


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A project in which nothing is missing."""
    due = [(feature, number, title) for feature, titles in DUE.items() for number, title in titles.items()]
    rows = [f"| {'P' if feature.endswith('support') else 'review '}{n} x | `{TESTS.name}` |" for feature, n, _ in due]
    for path, text in {
        TESTS: "".join(property_test(*each) for each in due),
        "docs/requirements.md": "\n".join(rows),
    }.items():
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).write_text(text)
    return tmp_path


def judge(tree: Path) -> str:
    """What the check complains about; it fails exactly when it does."""
    done = subprocess.run([sys.executable, CHECK, tree], capture_output=True, text=True, check=False)  # noqa: S603
    assert done.returncode == bool(done.stderr)
    return done.stderr


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_a_whole_tree_passes(tree: Path) -> None:
    assert judge(tree) == ""


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("Property 3: Domain Error to gRPC Status Mapping", "Property 3: Something", "which is no property"),
        (
            '"""**Feature: grpc-code-review, Property 9: Method-Level Authorization**"""',
            '"""R5."""',
            "No Hypothesis test of 100 examples has **Feature: grpc-code-review, Property 9",
        ),
        ("max_examples=100", "max_examples=99", "tries 99 examples"),
        ("max_examples=100", "max_examples=FEW", "tries 0 examples"),
        ("@given(some=values)\n", "", "tries 0 examples"),
    ],
)
def test_a_property_without_its_test_is_told(tree: Path, old: str, new: str, complaint: str) -> None:
    change(tree / TESTS, old, new)
    assert complaint in judge(tree)


def test_examples_may_be_a_constant(tree: Path) -> None:
    change(tree / TESTS, "@settings(max_examples=100)", "@settings(max_examples=MANY)")
    change(tree / TESTS, "\n", "MANY = int(os.environ.get('MANY', '500'))\n")
    assert judge(tree) == ""


def test_a_property_inside_of_a_test_counts(tree: Path) -> None:
    with (tree / TESTS).open("a") as tests:
        tests.write(
            '\ndef test_x():\n    """**Feature: grpc-code-review, Property 9: Method-Level Authorization**"""\n'
        )
        tests.write("    @given(some=values)\n    def check(some):\n        pass\n")
    assert judge(tree) == ""


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("| P2 x | `test_all.py`", "| P2 x | `test_none.py`", "names test_none.py, which is not there"),
        ("| review 4 x | `test_all.py`", "| review 4 x |", "does not name test_all.py"),
    ],
)
def test_the_table_of_the_requirements_names_what_is_there(tree: Path, old: str, new: str, complaint: str) -> None:
    change(tree / "docs/requirements.md", old, new)
    assert complaint in judge(tree)
