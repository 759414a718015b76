"""What each setting does: an experiment for every field of every model of settings, by which its effect is seen."""

from collections.abc import Awaitable, Callable
from pathlib import Path

from pydantic import BaseModel

type Experiment = Callable[[Path], Awaitable[None]]
"""Given a folder of its own, it does with the real thing what shows the effect, and what shows the lack of it."""

EFFECTS: dict[tuple[type[BaseModel], str], Experiment] = {}


def shows(model: type[BaseModel], *fields: str) -> Callable[[Experiment], Experiment]:
    """Note that the experiment shows what those fields do."""

    def note(experiment: Experiment) -> Experiment:
        for field in fields:
            assert field in model.model_fields, f"{model.__name__} has no {field}"
            assert (model, field) not in EFFECTS, f"{model.__name__}.{field} is shown twice"
            EFFECTS[model, field] = experiment
        return experiment

    return note
