"""Every field of every model of settings does something, and what it does is seen."""

import tempfile
from pathlib import Path

import pytest

import auth_effects  # noqa: F401  # notes its experiments
import database_effects  # noqa: F401  # the same
import grpc_effects  # noqa: F401  # the same
import http_effects  # noqa: F401  # the same
import items_effects  # noqa: F401  # the same
import process_effects  # noqa: F401  # the same
from effects import EFFECTS
from test_settings_models import MODELS

FIELDS = [(model, field) for model in MODELS for field in model.model_fields if field in model.__annotations__]


@pytest.fixture(scope="module")
def done():
    return set()


@pytest.mark.parametrize(("model", "field"), FIELDS, ids=[f"{model.__name__}-{field}" for model, field in FIELDS])
async def test_a_setting_has_an_effect(model, field, done):
    experiment = EFFECTS.get((model, field))
    assert experiment is not None, (
        f"nobody has shown what {model.__name__}.{field} does: write an experiment beside the others in "
        "tests/settings, which fails where it does nothing"
    )
    if experiment not in done:  # some show several
        with tempfile.TemporaryDirectory() as short:  # a socket's path has at most 107 bytes
            await experiment(Path(short))
        done.add(experiment)
