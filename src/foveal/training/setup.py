"""All that a training is made of, before its first step."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from rich.console import Console
from rich.table import Table

from foveal.asking.asker import Asker
from foveal.asking.models import make_encoder
from foveal.asking.opening import make_asker, open_model
from foveal.config.sections import Recipe, dump_recipe
from foveal.evaluation.known_rows import write_rows
from foveal.examples import Loaded, evenly_spread
from foveal.files import write_text
from foveal.runs import Run, environment
from foveal.tasks.registry import open_task
from foveal.tasks.specialist import Specialist
from foveal.tasks.task import Task, load_split
from foveal.terminal import counted
from foveal.training.objectives import Objective, make_objective
from foveal.training.rows import TrainingRows
from foveal.vlm import adapters
from foveal.vlm.encoding import Encoder
from foveal.vlm.finding import located
from foveal.vlm.loading import Vlm
from foveal.vlm.markers import check_plain

#: Rows of each split whose texts are looked at before the training.
CHECKED = 20_000


@dataclass(frozen=True)
class Data:
    """The splits of a training.

    Attributes:
        training: What is learned from.
        validation: What chooses the best checkpoint; empty where nothing is measured in between.
        measured: What is measured when training is done, and before it where the recipe says so.
    """

    training: Loaded
    validation: Loaded
    measured: Loaded

    @classmethod
    def load(cls, task: Task, recipe: Recipe) -> Data:
        """Loads the splits that a recipe needs.

        Raises:
            UserError: One is missing, empty or malformed.
        """
        training = load_split(task, "train")
        validation = load_split(task, "validation") if recipe.training.evaluate else Loaded([], "none")
        return cls(training, validation, load_split(task, recipe.evaluation.split))

    def splits(self, recipe: Recipe) -> dict[str, Loaded]:
        """The splits by name."""
        return {"train": self.training, "validation": self.validation, recipe.evaluation.split: self.measured}


@dataclass(frozen=True)
class Setup:
    """A training that can begin.

    Attributes:
        recipe: The resolved recipe, with what the task learned of its data.
        task: The task.
        data: Its splits.
        model: The model, ready to learn.
        objective: Its loss.
        rows: The training rows as the objective takes them.
        asker: Asks the model while it learns.
        preview: The first row as the loss sees it.
    """

    recipe: Recipe
    task: Task
    data: Data
    model: Vlm | Specialist[Any]
    objective: Objective
    rows: TrainingRows
    asker: Asker
    preview: str

    @classmethod
    def open(cls, task: Task, recipe: Recipe, data: Data) -> Setup:
        """Opens the model and makes the objective.

        Raises:
            UserError: The model does not exist or does not suit the recipe.
        """
        model = open_model(task, recipe, training=True)
        objective = make_objective(recipe, task, model)
        if isinstance(model, Vlm):
            _check_texts(make_encoder(model, recipe), task, data)
        elif model.encoder is not None:
            _check_texts(model.encoder, task, data, answers=False)
        rows = TrainingRows(task, data.training.examples, recipe.seed, mirrors=recipe.training.consistency > 0)
        preview = objective.preview([rows[0]])
        return cls(recipe, task, data, model, objective, rows, make_asker(task, model, recipe), preview)

    def describe(self, console: Console) -> None:
        """Prints the model's components, the data, and the first row as the loss sees it."""
        table = Table(
            title=f"{self.recipe.model.id} ({self.model.family}) on {self.model.device}", title_justify="left"
        )
        for column in ("component", "parameters", "trainable", "share"):
            table.add_column(column, justify="left" if column == "component" else "right")
        for row in adapters.describe(self.model.model):
            table.add_row(*row)
        console.print(table)
        training, validation = self.data.training, self.data.validation
        console.print(
            f"{counted(len(training.examples), 'training row')} of {training.source}; "
            f"{counted(len(validation.examples), 'validation row')}",
            soft_wrap=True,
        )
        for note in dict.fromkeys((*training.notes, *validation.notes)):
            console.print(f"  {note}", markup=False, highlight=False, soft_wrap=True)
        samples = len(evenly_spread(len(validation.examples), self.recipe.evaluation.samples))
        if remark := self.asker.remark(samples):
            console.print(f"  At each measurement: {remark}", markup=False, highlight=False, soft_wrap=True)
        console.print("The first row as the loss sees it; only [[ ]] is learned:")
        console.print(self.preview, markup=False, highlight=False, style="dim", soft_wrap=True)

    def write(self, run: Run) -> None:
        """Writes what describes a new run: recipe, environment, data, its rows, and the first row as the loss sees it."""
        write_rows(run, self.data.splits(self.recipe))
        write_text(run.recipe, dump_recipe(located(self.recipe)))
        run.write_json("environment.json", environment() | {"seed": self.recipe.seed})
        table = {
            name: {
                "source": loaded.source,
                "rows": len(loaded.examples),
                "refused": [list(r) for r in loaded.refused],
                "notes": list(loaded.notes),
            }
            for name, loaded in self.data.splits(self.recipe).items()
        }
        run.write_json("data.json", {"task": self.recipe.task, "splits": table})
        write_text(run.path / "label_mask.txt", self.preview + "\n")


def open_data(recipe: Recipe) -> tuple[Task, Recipe, Data]:
    """The task of a recipe, the recipe with what the task learned of its data (class names, say), and the splits.

    Raises:
        UserError: The data are missing or malformed.
    """
    task = open_task(recipe)
    recipe = replace(recipe, data=task.data)
    return task, recipe, Data.load(task, recipe)


def _check_texts(encoder: Encoder, task: Task, data: Data, *, answers: bool = True) -> None:
    """Refuses the model's own markers in the texts of the data before anything is learned.

    Args:
        encoder: Knows the markers.
        task: Makes the prompts.
        data: The splits.
        answers: Whether answers are looked at, too; those of a task's own model can take long to make.

    Raises:
        UserError: Names the row and the marker.
    """
    for loaded in (data.training, data.validation, data.measured):
        # The texts of generated rows are the package's; in a very large set, what is not looked at here is when it is read.
        chosen = evenly_spread(len(loaded.examples), CHECKED) if not loaded.source.startswith("generated") else []
        for i in chosen:
            row = loaded.examples[i]
            prompt = task.prompt(row if answers else replace(row, truth=None))
            check_plain(encoder.markers, [prompt], [f"{loaded.source}, {row.id}"])
