"""Every model of settings in the repository takes nothing that is misspelt, and changes never."""

import importlib
from collections.abc import Iterator
from pathlib import Path

import pydantic
import pytest
from pydantic import BaseModel

ROOT = Path(__file__).parents[2]


def models() -> Iterator[type[BaseModel]]:
    for kind in ("libs", "services", "tools"):
        for sources in sorted(ROOT.glob(f"{kind}/*/src")):
            for path in sorted(sources.rglob("*.py")):
                if "Settings" in path.read_text() or "pydantic" in path.read_text():
                    module = importlib.import_module(".".join(path.relative_to(sources).with_suffix("").parts))
                    for each in vars(module).values():
                        if (
                            isinstance(each, type)
                            and issubclass(each, BaseModel)
                            and each.__module__ == module.__name__
                        ):
                            yield each


MODELS = list(models())


def test_they_are_found():
    names = {model.__name__ for model in MODELS}
    assert names >= {"AuthSettings", "GRPCClientSettings", "HTTPServerSettings", "ItemsSettings", "IssuerSettings"}


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__qualname__)
def test_a_misspelt_key_is_refused(model):
    with pytest.raises(pydantic.ValidationError) as caught:
        model.model_validate({"misspelt": 1})
    assert ("extra_forbidden", ("misspelt",)) in {(each["type"], each["loc"]) for each in caught.value.errors()}


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__qualname__)
def test_it_cannot_be_changed(model):
    field = next(iter(model.model_fields))
    with pytest.raises(pydantic.ValidationError, match="frozen"):
        setattr(model.model_construct(), field, None)
