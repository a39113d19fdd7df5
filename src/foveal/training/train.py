"""The main job: from a recipe to a run folder with checkpoints, measurements and a report."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError

import torch
import transformers
from rich.console import Console
from safetensors import SafetensorError

from foveal.asking.asker import Asker
from foveal.asking.models import precision
from foveal.asking.opening import make_asker, open_model
from foveal.config.checking import check
from foveal.config.sections import Recipe
from foveal.config.trust import remember_trust
from foveal.errors import UserError
from foveal.evaluation.known_rows import check_same_rows
from foveal.evaluation.measure import measure, sentence
from foveal.quiet import quiet
from foveal.report.write import RESULTS_FILE, read_result, write_measurement, write_page, write_result
from foveal.results import Result
from foveal.runs import Run, check_new_run, create_run, owned, world_size
from foveal.training.arguments import check_packages, engine_arguments
from foveal.training.callbacks import TrainingBar
from foveal.training.checkpoints import Checkpoint, damaged_file, last_checkpoint, settle
from foveal.training.processes import agree_on_run, finish, is_main
from foveal.training.setup import Setup, open_data
from foveal.training.trainer import FovealTrainer, LossNotFinite, worker_sentence
from foveal.vlm import adapters
from foveal.vlm.loading import lacks_memory, memory_errors, pick_device

#: What reading a checkpoint raises that is damaged or belongs to another recipe.
_UNREADABLE = (
    OSError, EOFError, RuntimeError, ValueError, LookupError, TypeError, AttributeError, ImportError, AssertionError,
    UnpicklingError, SafetensorError,
)  # fmt: skip


@dataclass(frozen=True)
class Trained:
    """What a training left behind.

    Attributes:
        run: Its folder.
        results: Measurements, before and after.
        asker: Asks the best checkpoint.
        seconds: Time of the training itself.
    """

    run: Run
    results: Sequence[Result]
    asker: Asker
    seconds: float


@memory_errors()
def train(recipe: Recipe, console: Console, *, resume: Run | None = None) -> Trained:
    """Trains, measures and reports.

    Args:
        recipe: The resolved recipe.
        console: Where progress is shown.
        resume: A run that was interrupted; it continues from its last checkpoint.

    Raises:
        UserError: Something a user can put right; nothing is left half-written.
    """
    started = time.monotonic()
    quiet()
    world_size()
    check(recipe)
    check_packages(recipe)
    transformers.set_seed(recipe.seed)
    if resume is None:
        check_new_run(recipe.output, recipe.name)
    with _sentences(resume) as place:
        checkpoint = None if resume is None else _take_up(resume, recipe, place)
        task, recipe, data = open_data(recipe)
        if resume is not None and checkpoint is not None:
            check_same_rows(resume, data.splits(recipe))
        setup = Setup.open(task, recipe, data)
        run = resume or _new_run(setup, place)
        setup.describe(console)
        if checkpoint is None and is_main():
            setup.write(run)
        results = _measure_before(setup, run, console) if checkpoint is None and is_main() else []
        seconds = _fit(setup, run, console, checkpoint)
        finish()
        if not is_main():
            return Trained(run, results, setup.asker, seconds)
        best = run.checkpoint("best")
        asker = make_asker(task, open_model(task, recipe, weights=best), recipe)
        after = measure(asker, data.measured, console, label=f"after training ({best.name})")
        _report(setup, run, after, best.name, seconds=seconds, total=time.monotonic() - started)
    console.print(f"  {sentence(after)}", soft_wrap=True)
    return Trained(run, [*results, after], asker, seconds)


@dataclass
class _Place:
    """The run that a training writes, once it has one.

    Attributes:
        run: The run.
        held: Keeps other processes from it.
    """

    run: Run | None
    held: ExitStack

    def own(self, run: Run) -> Run:
        """Takes the run for this process alone."""
        self.held.enter_context(owned(run))
        self.run = run
        return run


@contextmanager
def _sentences(resume: Run | None) -> Iterator[_Place]:
    """Owns the run, and turns what goes wrong between opening the model and the report into sentences.

    Raises:
        UserError: A data worker failed or was ended from outside, or another process trains the run.
        KeyboardInterrupt: Says how to continue.
    """
    with ExitStack() as held:
        place = _Place(resume, held)
        try:
            yield place
        except RuntimeError as error:
            if str(error).startswith("DataLoader worker (pid"):
                raise UserError(
                    "A process that prepares batches was ended from outside, mostly for lack of memory; lower training.workers."
                ) from error
            raise
        except KeyboardInterrupt as error:
            remedy = f"continue with: foveal train --resume {place.run.path}" if place.run else ""
            raise KeyboardInterrupt(remedy) from error
        except LossNotFinite:
            if resume is None and place.run is not None and not any(place.run.checkpoints.glob("*-*")) and is_main():
                shutil.rmtree(place.run.path, ignore_errors=True)
            raise
        except UserError as error:
            raise worker_sentence(error) from error


def _take_up(run: Run, recipe: Recipe, place: _Place) -> Checkpoint | None:
    """Owns a run that was interrupted and puts it in order, before anything large is loaded.

    Returns:
        Where it goes on; None where it had no checkpoint yet.

    Raises:
        UserError: Another process trains it, it is damaged, or other processes began it.
    """

    def settled() -> Run:
        settle(place.own(run), recipe.training.keep_epochs)
        return run

    agree_on_run(settled, cpu=pick_device(recipe.model.device).type == "cpu")
    checkpoint = last_checkpoint(run)
    now = world_size()
    if checkpoint is not None and checkpoint.processes not in (None, now):
        batch, before = recipe.training.batch_size, checkpoint.processes or 1
        command = f"foveal train --resume {run.path}"
        many = f"torchrun --nproc_per_node {before} -m {command}"
        raise UserError(
            f"{run.path}: was trained by {before} process{'es' if before > 1 else ''} with {batch} rows each at a time, not by "
            f"{now}, which would change its steps; continue it with: {many if before > 1 else command}"
        )
    return checkpoint


def _new_run(setup: Setup, place: _Place) -> Run:
    """The folder of a new run, which the main process makes for all."""
    recipe = setup.recipe
    name = f"{recipe.task}-{Path(recipe.model.id).name}"
    run = agree_on_run(
        lambda: place.own(create_run(recipe.output, recipe.name, default_name=name)),
        cpu=setup.model.device.type == "cpu",
    )
    place.run = run
    remember_trust(run.path, recipe.model)
    return run


def _before(setup: Setup, run: Run) -> Path:
    """Where the measurement before the training is kept."""
    return run.evaluation(f"{setup.recipe.evaluation.split}-before")


def _measure_before(setup: Setup, run: Run, console: Console) -> list[Result]:
    """Measures the model as it is, where the recipe says so and it was not done yet."""
    folder, evaluation = _before(setup, run), setup.recipe.evaluation
    if not evaluation.before or (folder / RESULTS_FILE).exists():
        return []
    before = measure(setup.asker, setup.data.measured, console, label="before training")
    write_result(before, folder, {"checkpoint": None, "split": evaluation.split})
    console.print(f"  {sentence(before)}", soft_wrap=True)
    return [before]


def _fit(setup: Setup, run: Run, console: Console, checkpoint: Checkpoint | None) -> float:
    """Trains to the end. Returns the seconds it took."""
    recipe = setup.recipe
    arguments = engine_arguments(recipe, run, setup.task, precision(recipe, setup.model.device))
    per_step = recipe.training.batch_size * recipe.training.accumulate * arguments.world_size
    progress = TrainingBar(console, setup.task.headline, per_step)
    trainer = FovealTrainer(setup, run, arguments, callbacks=[progress])
    trainer.remove_callback(transformers.trainer_callback.PrinterCallback)
    started = time.monotonic()
    try:
        if checkpoint is not None:
            trainer.take_up(checkpoint)
            if trainer.finished(checkpoint.state):
                console.print("The training was finished already; it is only measured again.")
                return sum(float(row.get("seconds", 0.0)) for row in checkpoint.history)
            console.print(f"continuing from {checkpoint.folder.name}")
            trainer._load_rng_state(str(checkpoint.folder))  # here, where it is known that a failure is the file's
        # Any draw made while measuring or describing must not change the training.
        transformers.set_seed(recipe.seed)
        trainer.train(resume_from_checkpoint=str(checkpoint.folder) if checkpoint else None)
    except _UNREADABLE as error:
        if checkpoint is None or progress.began or lacks_memory(error):
            raise
        raise _not_continued(checkpoint.folder, error) from error
    finally:
        progress.stop()
    return time.monotonic() - started


def _not_continued(folder: Path, error: Exception) -> UserError:
    """Why a training could not go on from a checkpoint: one of its files, or the recipe."""
    damaged = damaged_file(folder)
    if damaged is not None:
        file, reason = damaged
        return UserError(
            f"{file}: cannot be read ({reason}); the checkpoint is damaged: restore the file, or remove {folder} to go on from "
            "one before it."
        )
    reason = re.split(r"\n|[.] ", str(error))[0]
    return UserError(
        f"{folder}: cannot be continued from ({reason}); it is damaged, or the recipe was changed in what the "
        "optimizer or the weights depend on."
    )


def _report(setup: Setup, run: Run, after: Result, checkpoint: str, *, seconds: float, total: float) -> None:
    """Writes the last measurement and the run's page."""
    task, recipe, split = setup.task, setup.recipe, setup.recipe.evaluation.split
    write_measurement(task, after, run.evaluation(split), {"checkpoint": checkpoint, "split": split})
    folder = _before(setup, run)
    results = [read_result(folder, task.metrics)] if (folder / RESULTS_FILE).exists() else []
    on_gpu = torch.cuda.is_available()
    parts = [
        f"{name}: {learns} of {size}"
        for name, size, learns, _ in adapters.describe(setup.model.model)[:-1]
        if learns != "0"
    ]
    facts = {
        "training time": f"{seconds:.0f} s (everything: {total:.0f} s)",
        "machine": f"GPU {torch.cuda.get_device_name()}" if on_gpu else f"CPU, {torch.get_num_threads()} threads",
        "seed": str(recipe.seed),
        "trained": "; ".join(parts) or "nothing",
        "run": str(run.path),
    }
    write_page(
        run.report, task, recipe, [*results, after], title=f"{recipe.task} with {recipe.model.id}", facts=facts,
        history=run.read_metrics(), label_mask=setup.preview,
    )  # fmt: skip
