"""The code of a guide is judged as one program, line for line; `build-support/check` runs mypy over all of them."""

import ast
import importlib.util
from pathlib import Path

import pytest

CHECK = Path("build-support/check_guides.py").absolute()
GUIDE = """# Calling

```python
import grpc
```

words, and
```sh
no python
```
```python
if True:

    call = await begin()
```
"""


@pytest.fixture(scope="module")
def check():
    spec = importlib.util.spec_from_file_location("check_guides", CHECK)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_each_line_stands_where_it_stands_in_the_guide(check):
    lines = check.program(GUIDE, "names: str\n").splitlines()
    told = GUIDE.splitlines()
    assert lines[0] == "async def guide() -> None:"
    code = {place: line.strip() for place, line in enumerate(lines[1 : len(told)], 1) if line.strip()}
    assert code == {3: "import grpc", 11: "if True:", 13: "call = await begin()"}
    assert all(told[place].strip() == line for place, line in code.items())
    assert lines[-1] == "names: str"
    ast.parse("\n".join(lines))


def test_a_program_that_yields_is_a_generator(check):
    assert check.program("# A\n```python\nyield 1\n```\n", "").startswith("async def guide() -> object:")


def test_a_guide_without_code_is_no_program(check):
    assert check.program("# A\n```sh\nls\n```\n", "names: str") == ""


def test_the_guides_are_found(check):
    with_code = [guide for guide in check.guides() if check.program(guide.read_text(), check.names_of(guide))]
    assert {"grpc-usage.md", "filters.md", "conformance.md", "manual-certificates.md"} <= {
        each.name for each in with_code
    }
    for guide in with_code:
        ast.parse(check.program(guide.read_text(), check.names_of(guide)))
