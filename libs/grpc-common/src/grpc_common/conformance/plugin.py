"""The pytest plugin: a test that takes `conformance` runs once per cell of the matrix.

    pytest_plugins = ["grpc_common.conformance.plugin"]

    @pytest.fixture(scope="module")
    def conformance_subject():
        return Subject(interceptors=[MyInterceptor()])

    def test_my_interceptor_conforms(conformance):
        conformance()

The fixture `conformance_subject` may have `params`: then the matrix runs over each subject. It has one server, in an
event loop of the plugin's own, so any asyncio plugin or none will do. `docs/guides/conformance.md` tells more.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack

import pytest

from grpc_common.conformance.endings import CASES, Case
from grpc_common.conformance.matrix import Matrix
from grpc_common.conformance.subject import Subject

MALFORMED = "malformed-http"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make a test of every cell."""
    if "conformance" in metafunc.fixturenames:
        metafunc.parametrize("conformance", [*CASES, MALFORMED], ids=str, indirect=True)


@pytest.fixture(scope="module")
def conformance_subject() -> Subject:
    """What is put to the test; to be overridden."""
    raise pytest.UsageError("define the fixture conformance_subject, which returns a Subject, with scope='module'")


@pytest.fixture(scope="module")
def conformance_matrix(conformance_subject: Subject) -> Iterator[Callable[[Case | str], list[str]]]:
    """The subject's server, and how to check one cell on it."""
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        matrix = runner.run(stack.enter_async_context(Matrix.serve(conformance_subject)))

        def check(case: Case | str) -> list[str]:
            return runner.run(matrix.check_malformed() if isinstance(case, str) else matrix.check(case))

        yield check
        runner.run(stack.aclose())


@pytest.fixture
def conformance(
    request: pytest.FixtureRequest, conformance_matrix: Callable[[Case | str], list[str]]
) -> Callable[[], None]:
    """A function that checks one cell and fails with a sentence for each thing that does not hold."""

    def check() -> None:
        if findings := conformance_matrix(request.param):
            pytest.fail(f"{request.param}: " + "; ".join(findings), pytrace=False)

    return check
