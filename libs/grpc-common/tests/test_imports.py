"""What the library needs to be imported."""

import os
import subprocess
import sys

import pytest

import grpc_common.application
import grpc_common.client.factory
import grpc_common.run
import grpc_common.settings
import grpc_common.testing

MODULES = (
    grpc_common.application,
    grpc_common.client.factory,
    grpc_common.run,
    grpc_common.settings,
    grpc_common.testing,
)
OF_DATABASES = ("sqlalchemy", "alembic", "asyncpg", "aiosqlite")
OF_HTTP = ("uvicorn", "fastapi", "starlette")
OF_VALKEY = ("redis",)


@pytest.mark.parametrize("packages", [OF_DATABASES, OF_HTTP, OF_VALKEY], ids=["a database", "HTTP", "Valkey"])
def test_a_service_without_it_needs_none_of_its_packages(packages: tuple[str, ...]) -> None:
    program = f"""
import sys
sys.modules.update(dict.fromkeys({packages}))  # to import one of them is now an error
import {", ".join(module.__name__ for module in MODULES)}
"""
    environment = {"PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True)  # noqa: S603
