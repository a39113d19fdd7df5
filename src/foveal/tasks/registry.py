"""Finds tasks by name, this package's and other packages'."""

from __future__ import annotations

from pathlib import Path

from foveal import hub, plugins
from foveal.config.sections import Recipe
from foveal.errors import UserError
from foveal.examples import Split
from foveal.files import check_input
from foveal.tasks.capabilities import check_capabilities
from foveal.tasks.task import Task


def find_task(name: str) -> type[Task]:
    """The task of that name; no other is imported.

    Raises:
        UserError: There is none (the message names the nearest), it cannot be imported, or it is no whole task.
    """
    task = plugins.find("task", name)
    if not (isinstance(task, type) and issubclass(task, Task)):
        raise UserError(
            f"The task {name!r} is no subclass of foveal.tasks.task.Task; correct its package's entry points."
        )
    check_capabilities(task)
    return task


def open_task(recipe: Recipe) -> Task:
    """The task of a recipe with its data section and pixel limit.

    Raises:
        UserError: There is no such task, or its data section is impossible.
    """
    kind = find_task(recipe.task)
    source = getattr(recipe.data, "source", None)
    if isinstance(source, str):
        check_input(Path(source).expanduser())
    task = kind(recipe.data)
    task.max_pixels = recipe.model.max_pixels
    return task


def check_source(recipe: Recipe, split: Split = "train") -> None:
    """Refuses a folder or file of data that is not there, in the task's own words; data that are there are not read.

    What a sentence can say at once need not wait for the libraries of models to be imported, which takes seconds.

    Raises:
        UserError: There is no such folder or file, or no such task.
    """
    source = getattr(recipe.data, "source", None)
    if not isinstance(source, str) or source == getattr(type(recipe.data), "source", None) or hub.is_source(source):
        return  # there is none, the task's own default, e.g. "generate", or perhaps the Hub has it
    if not Path(source).expanduser().exists():
        open_task(recipe).load(split)


def all_tasks() -> tuple[dict[str, type[Task]], dict[str, str]]:
    """All tasks that are installed by name, and the reason for each one that is broken."""
    good: dict[str, type[Task]] = {}
    broken: dict[str, str] = {}
    for name in plugins.names("task"):
        try:
            good[name] = find_task(name)
        except UserError as error:
            broken[name] = str(error)
    return good, broken
