"""The main job: from a recipe to a run folder with checkpoints, measurements and a report."""

from __future__ import annotations

import importlib.util
import re
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
import transformers
from rich.console import Console
from rich.table import Table
from safetensors import SafetensorError
from transformers import TrainingArguments

from foveal.asking.asker import Predictor, make_predictor, open_model
from foveal.config.sections import Recipe, check, dump_recipe
from foveal.errors import UserError
from foveal.evaluation.measure import Result, measure, read_measured, save, showcase
from foveal.examples import Loaded, Split
from foveal.files import write_text
from foveal.quiet import quiet
from foveal.report.page import Measured, Report, overview
from foveal.report.page import write as write_report
from foveal.report.pictures import write_pictures
from foveal.report.plots import curves_png
from foveal.runs import Run, check_new_run, create_run, environment
from foveal.tasks.registry import open_task
from foveal.tasks.specialist import Specialist
from foveal.tasks.task import Task
from foveal.training.callbacks import TrainingBar
from foveal.training.checkpoints import last_checkpoint, read_state
from foveal.training.objectives import make_objective
from foveal.training.processes import agree_on_run, finish, is_main
from foveal.training.rows import TrainingRows
from foveal.training.trainer import FovealTrainer, worker_sentence
from foveal.vlm import adapters
from foveal.vlm.loading import Vlm, lacks_memory, memory_errors, pick_device

_SCHEDULES = {
    "cosine": "cosine", "linear": "linear", "constant": "constant_with_warmup", "plateau": "reduce_lr_on_plateau",
}  # fmt: skip
_OPTIMIZERS = {
    "adamw": "adamw_torch", "muon": "adamw_torch", "adafactor": "adafactor", "adamw_8bit": "adamw_8bit",
    "paged_adamw_8bit": "paged_adamw_8bit",
}  # fmt: skip


#: What reading a checkpoint raises that is damaged or belongs to another recipe.
_UNREADABLE = (OSError, EOFError, RuntimeError, ValueError, KeyError, TypeError, UnpicklingError, SafetensorError)


@dataclass(frozen=True)
class Trained:
    """What a training left behind.

    Attributes:
        run: Its folder.
        results: Measurements, before and after.
        task: The task, with the recipe's data section.
        predictor: Asks the best checkpoint.
        seconds: Time of the training itself.
    """

    run: Run
    results: Sequence[Result]
    task: Task
    predictor: Predictor
    seconds: float


def check_packages(recipe: Recipe) -> None:
    """Refuses a recipe that needs a package which is not installed.

    Raises:
        UserError: Names the setting and how to install the package.
    """
    extras = {"wandb": "track", "tensorboard": "track", "trackio": "track", "bitsandbytes": "quant", "mlflow": None}
    needs: list[tuple[str, str]] = [("training.report_to", name) for name in recipe.training.report_to]
    if recipe.training.optimizer.endswith("_8bit"):
        needs.append(("training.optimizer", "bitsandbytes"))
    for key, package in needs:
        if importlib.util.find_spec(package) is None:
            what = f"'foveal[{extras[package]}]'" if extras[package] else package
            raise UserError(f"{key}: needs the package {package}; install it with: pip install {what}")


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
    quiet()
    check(recipe)
    check_packages(recipe)
    run = resume
    started = time.monotonic()
    transformers.set_seed(recipe.seed)
    if run is None:
        check_new_run(recipe.output, recipe.name)
    task = open_task(recipe)
    # What the task found out about its data (class names, say) belongs to the run.
    recipe = replace(recipe, data=task.data)
    training = _load_rows(task, "train")
    validation = _load_rows(task, "validation") if recipe.training.evaluate else Loaded([], "none")
    measured = _load_rows(task, recipe.evaluation.split)
    try:
        vlm = open_model(task, recipe, training=True)
        objective = make_objective(recipe, task, vlm)
        rows = TrainingRows(task, training.examples, recipe.seed, mirrors=recipe.training.consistency > 0)
        mask = objective.preview([rows[0]])
        predictor = make_predictor(task, vlm, recipe)
        default = f"{recipe.task}-{Path(recipe.model.id).name}"
        run = run or agree_on_run(
            lambda: create_run(recipe.output, recipe.name, default_name=default), cpu=vlm.device.type == "cpu"
        )
        _describe(console, recipe, vlm, training, validation, mask)
        checkpoint = _prepare(
            run, recipe, {"train": training, "validation": validation, recipe.evaluation.split: measured}, mask
        )
        results = []
        first = run.evaluation(f"{recipe.evaluation.split}-before")
        if recipe.evaluation.before and not (first / "results.json").exists() and checkpoint is None and is_main():
            before = measure(task, predictor, measured, console, label="before training")
            save(before, first, {"checkpoint": None, "split": recipe.evaluation.split})
            console.print(f"  {before.sentence()}", soft_wrap=True)
            results.append(before)
        seconds = _fit(recipe, run, task, vlm, objective, rows, validation, predictor, console, checkpoint)
        finish()
        if not is_main():
            return Trained(run, results, task, predictor, seconds)
        best = run.checkpoint("best")
        predictor = make_predictor(task, open_model(task, recipe, weights=best), recipe)
        after = measure(task, predictor, measured, console, label=f"after training ({best.name})")
    except RuntimeError as error:
        if str(error).startswith("DataLoader worker (pid"):
            raise UserError(
                "A process that prepares batches was ended from outside, mostly for lack of memory; lower training.workers."
            ) from error
        raise
    except KeyboardInterrupt as error:
        raise KeyboardInterrupt(f"continue with: foveal train --resume {run.path}" if run else "") from error
    except UserError as error:
        raise worker_sentence(error) from error
    save(after, run.evaluation(recipe.evaluation.split), {"checkpoint": best.name, "split": recipe.evaluation.split})
    write_pictures(task, after.examples, after.predictions, run.evaluation(recipe.evaluation.split))
    console.print(f"  {after.sentence()}", soft_wrap=True)
    results.append(after)
    table = [*read_measured(first), after.row()]
    report(run, recipe, task, vlm, after, table, seconds=seconds, total=time.monotonic() - started, mask=mask)
    return Trained(run, results, task, predictor, seconds)


def _load_rows(task: Task, split: Split) -> Loaded:
    loaded = task.load(split)
    if len(loaded.examples) == 0:
        raise UserError(f"{loaded.source}: the {split} split holds no rows.")
    return loaded


def _prepare(run: Run, recipe: Recipe, splits: dict[str, Loaded], mask: str) -> Path | None:
    """Finds the checkpoint to continue from; where there is none yet, writes what describes the run."""
    checkpoint = last_checkpoint(run)
    if checkpoint is not None:
        epoch = read_state(checkpoint).epoch or 0.0
        if is_main():
            run.drop_metrics_after(epoch)
        return checkpoint
    if not is_main():
        return None
    run.rewrite_metrics([])
    write_text(run.recipe, dump_recipe(recipe))
    run.write_json("environment.json", environment() | {"seed": recipe.seed})
    table = {
        name: {
            "source": x.source,
            "rows": len(x.examples),
            "refused": [list(r) for r in x.refused],
            "notes": list(x.notes),
        }
        for name, x in splits.items()
    }
    run.write_json("data.json", {"task": recipe.task, "splits": table})
    write_text(run.path / "label_mask.txt", mask + "\n")
    return None


def _describe(
    console: Console, recipe: Recipe, vlm: Vlm | Specialist[Any], training: Loaded, validation: Loaded, mask: str
) -> None:
    table = Table(title=f"{recipe.model.id} ({vlm.family}) on {vlm.device}", title_justify="left")
    for column in ("component", "parameters", "trainable", "share"):
        table.add_column(column, justify="left" if column == "component" else "right")
    for row in adapters.describe(vlm.model):
        table.add_row(*row)
    console.print(table)
    console.print(
        f"{len(training.examples):,} training rows of {training.source}; {len(validation.examples):,} validation rows",
        soft_wrap=True,
    )
    for note in dict.fromkeys((*training.notes, *validation.notes)):
        console.print(f"  {note}", markup=False, highlight=False, soft_wrap=True)
    console.print("The first row as the loss sees it; only [[ ]] is learned:")
    console.print(mask, markup=False, highlight=False, style="dim", soft_wrap=True)


def _arguments(recipe: Recipe, run: Run, task: Task, dtype: torch.dtype) -> TrainingArguments:
    t = recipe.training
    device = pick_device(recipe.model.device)
    plateau = {
        "mode": "max" if task.higher_is_better() else "min",
        "factor": t.plateau_factor,
        "patience": t.plateau_patience,
    }
    return TrainingArguments(
        output_dir=str(run.path), seed=recipe.seed, data_seed=recipe.seed, num_train_epochs=t.epochs, max_steps=t.max_steps,
        per_device_train_batch_size=t.batch_size, gradient_accumulation_steps=t.accumulate, learning_rate=t.learning_rate,
        weight_decay=t.weight_decay, lr_scheduler_type=_SCHEDULES[t.schedule], warmup_steps=t.warmup,
        lr_scheduler_kwargs=plateau if t.schedule == "plateau" else {}, max_grad_norm=t.max_grad_norm,
        optim=_OPTIMIZERS[t.optimizer], bf16=dtype == torch.bfloat16, fp16=dtype == torch.float16, use_cpu=device.type == "cpu",
        eval_strategy="epoch" if t.evaluate else "no", save_strategy="no", logging_steps=t.log_steps, report_to=t.report_to or "none",
        run_name=run.path.name, metric_for_best_model=f"eval_{task.headline}", greater_is_better=task.higher_is_better(),
        dataloader_num_workers=t.workers, dataloader_pin_memory=device.type == "cuda", remove_unused_columns=False,
        disable_tqdm=True, logging_nan_inf_filter=False, torch_compile=t.compile,
    )  # fmt: skip


def _fit(
    recipe: Recipe, run: Run, task: Task, vlm: Vlm | Specialist[Any], objective: Any, rows: TrainingRows, validation: Loaded,
    predictor: Predictor, console: Console, checkpoint: Path | None,
) -> float:  # fmt: skip
    """Trains to the end. Returns the seconds it took."""
    arguments = _arguments(recipe, run, task, predictor.dtype)
    per_step = recipe.training.batch_size * recipe.training.accumulate * arguments.world_size
    progress = TrainingBar(console, task.headline, per_step)
    trainer = FovealTrainer(
        model=vlm.model, recipe=recipe, run=run, task=task, objective=objective, rows=rows, validation=validation.examples,
        predictor=predictor, arguments=arguments, callbacks=[progress],
    )  # fmt: skip
    trainer.remove_callback(transformers.trainer_callback.PrinterCallback)
    if checkpoint is not None and trainer.finished(read_state(checkpoint)):
        console.print("The training was finished already; it is only measured again.")
        return sum(float(row.get("seconds", 0.0)) for row in run.read_metrics())
    if checkpoint is not None:
        console.print(f"continuing from {checkpoint.name}")
    # Any draw made while measuring or describing must not change the training.
    transformers.set_seed(recipe.seed)
    started = time.monotonic()
    try:
        if checkpoint is not None:
            trainer.resume_epoch(checkpoint)
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    except _UNREADABLE as error:
        if checkpoint is None or progress.began or lacks_memory(error):
            raise
        reason = re.split(r"\n|[.] ", str(error))[0]
        raise UserError(
            f"{checkpoint}: cannot be continued from ({reason}); it is damaged, or the recipe was changed in what the "
            "optimizer or the weights depend on."
        ) from error
    finally:
        progress.stop()
    return time.monotonic() - started


def report(
    run: Run,
    recipe: Recipe,
    task: Task,
    vlm: Vlm | Specialist[Any],
    last: Result,
    table: Sequence[Measured],
    *,
    seconds: float,
    total: float,
    mask: str,
) -> None:
    """Writes ``curves.png`` and ``report.html`` from what the run measured."""
    history = run.read_metrics()
    if history:
        curves_png(history, run.path / "curves.png", headline=f"val_{last.headline}", chance=last.chance)
    hardware = (
        "GPU " + torch.cuda.get_device_name()
        if torch.cuda.is_available()
        else f"CPU, {torch.get_num_threads()} threads"
    )
    facts = {
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "training time": f"{seconds:.0f} s (everything: {total:.0f} s)",
        "machine": hardware,
        "seed": str(recipe.seed),
        "trained": "; ".join(f"{c}: {n} of {p}" for c, p, n, _ in adapters.describe(vlm.model)[:-1] if n != "0")
        or "nothing",
        "run": str(run.path),
    }
    page = Report(
        title=f"{recipe.task} with {recipe.model.id}", task=recipe.task, model=recipe.model.id, facts=facts,
        measured=table, history=history,
        shown=showcase(task, last.examples, last.predictions, recipe.evaluation.shown), label_mask=mask, recipe=dump_recipe(recipe),
        overview=overview(last.examples, last.predictions),
    )  # fmt: skip
    write_report(run.report, page)
