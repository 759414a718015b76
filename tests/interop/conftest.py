"""The programs, built once."""

from pathlib import Path

import pytest

from go_programs import build


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which `client`, `grpcurl` and `grpc-health-probe` are."""
    return build(tmp_path_factory.mktemp("go"))
