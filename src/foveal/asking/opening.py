"""From a recipe to a model that can be asked."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from foveal.asking.asker import Asker
from foveal.asking.models import LocalModel, OwnModel
from foveal.asking.replies import Replies
from foveal.asking.served import ServedModel
from foveal.config.sections import Recipe
from foveal.errors import UserError
from foveal.runs import Run, checkpoint_of
from foveal.tasks.capabilities import OwnModels, reply_start_of
from foveal.tasks.registry import open_task
from foveal.tasks.specialist import Specialist
from foveal.tasks.task import Task
from foveal.vlm.finding import is_url
from foveal.vlm.loading import Vlm, load


def open_model(
    task: Task, recipe: Recipe, *, weights: Path | None = None, training: bool = False
) -> Vlm | Specialist[Any]:
    """The model of a recipe: one of the task's own where ``model.id`` is its name, else a VLM.

    Args:
        task: The task.
        recipe: The resolved recipe.
        weights: A checkpoint folder of a run.
        training: Whether the model is trained.

    Raises:
        UserError: The model does not exist, does not fit or runs on a server, or cannot do what the recipe asks.
    """
    if training and recipe.objective == "label" and reply_start_of(task, "") is not None:
        raise UserError(
            f"objective: label learns the bare answer, but here {task.name} asks for reasons in front of it; use "
            "objective: answer, or ask for the answer alone."
        )
    models = task.models if isinstance(task, OwnModels) else {}
    path = models.get(recipe.model.id) or models.get("*")
    if path is not None:
        module, _, name = path.partition(":")
        kind: type[Specialist[Any]] = getattr(importlib.import_module(module), name)
        return kind.open(task, recipe, weights=weights, training=training)
    return load(recipe.model, weights=weights, training=training)


def make_asker(task: Task, model: Vlm | Specialist[Any], recipe: Recipe, cache: Replies | None = None) -> Asker:
    """The asker of a loaded model under a recipe."""
    loaded = LocalModel(model, recipe) if isinstance(model, Vlm) else OwnModel(model, recipe)
    return Asker(task, loaded, recipe.evaluation, cache)


def open_asker(recipe: Recipe, run: Run | None, checkpoint: str = "best") -> tuple[Asker, str]:
    """The asker of a run's checkpoint or, without a run, of the recipe's local or served model.

    Returns:
        The asker, and the checkpoint's name (without a run, the model's id or its name on the server).

    Raises:
        UserError: The checkpoint or the model does not exist, or the server cannot be reached.
    """
    served_elsewhere = is_url(recipe.model.id)
    weights = checkpoint_of(None if served_elsewhere else run, checkpoint)
    task = open_task(recipe)
    if served_elsewhere:
        served = ServedModel(recipe)
        return Asker(task, served, recipe.evaluation), served.connect()
    asker = make_asker(task, open_model(task, recipe, weights=weights), recipe)
    return asker, weights.name if weights is not None else recipe.model.id
