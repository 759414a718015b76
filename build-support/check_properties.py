"""Checks that each property of the specification that is due has a tagged Hypothesis test of at least 100 examples,
and that docs/requirements.md names the files where they stand.

usage: "$(build-support/python-env mesh)" build-support/check_properties.py [FOLDER]    (judges another tree)
"""

import ast
import fnmatch
import re
import sys
from collections.abc import Iterator
from pathlib import Path

DUE = {
    "grpc-microservices-support": {
        1: "Protobuf Message Round-Trip",
        2: "Entity-Protobuf Mapper Consistency",
        3: "Domain Error to gRPC Status Mapping",
        4: "JWT Authentication Validation",
        5: "Interceptor Execution Order",
        6: "Health Check Status Consistency",
        7: "Retry with Exponential Backoff",
        8: "Circuit Breaker State Transitions",
        9: "Deadline Enforcement",
        10: "Server Streaming Message Delivery",
        11: "Client Streaming Message Reception",
        12: "Metrics Recording Completeness",
        13: "Trace Context Propagation",
    },
    "grpc-code-review": {
        1: "Async Operation Completion",
        2: "Interceptor Chain Execution Order",
        4: "Health Check Protocol Compliance",
        5: "Channel Reuse Consistency",
        6: "Circuit Breaker State Transitions",
        7: "Trace Context Propagation",
        8: "JWT Validation Security",
        9: "Method-Level Authorization",
        10: "Protobuf Message Validation",
    },
}
"""The titles by feature and number. A property joins with the part of the system it is about."""
ENOUGH = 100
TAG = re.compile(r"Feature: ([\w-]+), Property (\d+): ([^*\n]+?)\*\*")
TESTS = ("libs/*/tests", "services/*/tests", "tools/*/tests", "tests")
TABLE = "docs/requirements.md"

type Function = ast.FunctionDef | ast.AsyncFunctionDef


def main() -> int:
    root = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent.parent)
    problems: list[str] = []
    found: dict[tuple[str, int], set[str]] = {}
    for path in sorted({path for folder in TESTS for path in root.glob(f"{folder}/**/test_*.py")}):
        name = str(path.relative_to(root))
        module = ast.parse(path.read_text())
        for function, feature, number, title in tags(module):
            where = f"{name}: {function.name}"
            if DUE.get(feature, {}).get(number) != title:
                problems.append(f"{where} is tagged as {feature}, Property {number}: {title}, which is no property.")
                continue
            examples = most_examples(function, module)
            if examples < ENOUGH:
                problems.append(f"{where} tries {examples} examples of {feature}, Property {number}; {ENOUGH} are due.")
            else:
                found.setdefault((feature, number), set()).add(path.name)
    problems += missing(found)
    problems += table(root, found)
    print(*problems, sep="\n", file=sys.stderr, end="\n" if problems else "")
    return 1 if problems else 0


def tags(module: ast.Module) -> Iterator[tuple[Function, str, int, str]]:
    for node in ast.walk(module):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            for feature, number, title in TAG.findall(ast.get_docstring(node) or ""):
                yield node, feature, int(number), title


def most_examples(function: Function, module: ast.Module) -> int:
    """The examples of the property: `function` itself, or the one inside that it runs. 0 where there is none."""
    return max(
        (
            examples(node.decorator_list, module)
            for node in ast.walk(function)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            and any(called(decorator) == "given" for decorator in node.decorator_list)
        ),
        default=0,
    )


def examples(decorators: list[ast.expr], module: ast.Module) -> int:
    for decorator in decorators:
        if called(decorator) == "settings" and isinstance(decorator, ast.Call):
            for keyword in decorator.keywords:
                if keyword.arg == "max_examples":
                    return number(keyword.value, module)
    return ENOUGH  # what Hypothesis does when nothing else is said


def number(value: ast.expr, module: ast.Module) -> int:
    """The number that `value` is, at least: a literal, a constant of the module, or the least number it is made of."""
    if isinstance(value, ast.Name):
        for node in module.body:
            if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == value.id for t in node.targets):
                return number(node.value, module)
    literals = (str(node.value) for node in ast.walk(value) if isinstance(node, ast.Constant))
    return min((int(each) for each in literals if each.isdecimal()), default=0)


def called(decorator: ast.expr) -> str:
    function = decorator.func if isinstance(decorator, ast.Call) else decorator
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def missing(found: dict[tuple[str, int], set[str]]) -> Iterator[str]:
    for feature, titles in DUE.items():
        for number_, title in titles.items():
            if (feature, number_) not in found:
                yield (
                    f"No Hypothesis test of {ENOUGH} examples has **Feature: {feature}, Property {number_}: {title}** "
                    "in its docstring."
                )


def table(root: Path, found: dict[tuple[str, int], set[str]]) -> Iterator[str]:
    text = (root / TABLE).read_text()
    names = {path.name for path in root.glob("**/test_*.py")}
    for mentioned in sorted(set(re.findall(r"test_[\w*]+\.py", text))):
        if not fnmatch.filter(names, mentioned):
            yield f"{TABLE} names {mentioned}, which is not there."
    for (feature, number_), files in sorted(found.items()):
        row = f"{'P' if feature == 'grpc-microservices-support' else 'review '}{number_} "
        line = next((line for line in text.splitlines() if line.startswith(f"| {row}")), "")
        if unnamed := sorted(files - set(re.findall(r"test_\w+\.py", line))):
            yield f"The row '{row}…' of {TABLE} does not name {', '.join(unnamed)}."


if __name__ == "__main__":
    sys.exit(main())
