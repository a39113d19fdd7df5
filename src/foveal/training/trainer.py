"""The one trainer, on `transformers.Trainer`: our losses, real predictions for metrics, and atomic checkpoints."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from foveal.asking.asker import Predictor, mixed
from foveal.config.sections import Recipe
from foveal.errors import UserError
from foveal.examples import Example, evenly_spread
from foveal.files import disk_errors, write_text
from foveal.runs import Run
from foveal.tasks.specialist import NamedLosses
from foveal.tasks.task import Task
from foveal.training.objectives import Objective
from foveal.training.optimizers import MuonWithAdamW, split_for_muon
from foveal.training.rows import TrainingRows, make_row
from foveal.vlm.adapters import parameter_groups

#: Beside the weights in every checkpoint: what the running epoch has summed up so far.
PROGRESS_FILE = "foveal_progress.json"
_EPOCH_END, _STEP = "epoch", "step"


class FovealTrainer(Trainer):  # type: ignore[misc]
    """Trains one model on one objective and measures it by the task's own metric.

    Args:
        recipe: The resolved recipe.
        run: Where everything is written.
        task: Measures predictions.
        objective: Makes batches and computes the loss.
        rows: The training rows.
        validation: Rows predicted at each epoch's end; empty for none.
        predictor: Asks the model while it trains.
        arguments: Settings of the engine.
    """

    optimizer: Any
    control: Any

    def __init__(
        self, *, model: nn.Module, recipe: Recipe, run: Run, task: Task, objective: Objective, rows: TrainingRows,
        validation: Sequence[Example], predictor: Predictor, arguments: TrainingArguments,
        callbacks: list[TrainerCallback],
    ) -> None:  # fmt: skip
        super().__init__(
            model=model, args=arguments, train_dataset=rows, eval_dataset=rows, data_collator=objective.collate,
            callbacks=[EpochFlow(self, recipe, rows), *callbacks],
        )  # fmt: skip
        self.recipe, self.run, self.task, self.objective = recipe, run, task, objective
        self.validation, self.predictor = validation, predictor
        # Our losses are sums over the whole optimizer step's answer tokens (or rows): nothing is left to scale.
        self.model_accepts_loss_kwargs = True
        self.loss_is_scaled_for_ga = True
        self._begin_sums()
        self.is_best = False
        self.save_kind = _EPOCH_END
        self.on_rows: Callable[[int], None] = lambda n: None

    def _begin_sums(self) -> None:
        self.epoch_loss, self.epoch_steps, self.epoch_rows, self.epoch_started = 0.0, 0, 0, time.monotonic()
        self.epoch_parts: dict[str, float] = {}

    def resume_progress(self, file: Path) -> None:
        """Takes up the running epoch's sums where the checkpoint left them."""
        saved = json.loads(file.read_text())
        self.epoch_loss, self.epoch_steps, self.epoch_rows = saved["loss"], saved["steps"], saved["rows"]
        self.epoch_parts = dict(saved.get("parts", {}))
        if not self.is_world_process_zero():
            # What is saved is the sum of all processes; one of them goes on with it.
            self.epoch_loss, self.epoch_parts = 0.0, dict.fromkeys(self.epoch_parts, 0.0)

    def _summed(self) -> tuple[float, dict[str, float]]:
        """The running epoch's loss and its parts, of all processes together."""
        if self.args.world_size == 1:
            return self.epoch_loss, self.epoch_parts
        names = list(self.epoch_parts)
        own = [self.epoch_loss, *(self.epoch_parts[n] for n in names)]
        whole: Any = self.accelerator.reduce(torch.tensor(own, device=self.args.device), "sum")
        loss, *parts = whole.tolist()
        return loss, dict(zip(names, parts, strict=True))

    def finished(self, state: TrainerState) -> bool:
        """Whether a checkpoint's state is the end of the training; the engine itself would take one step more."""
        t = self.recipe.training
        batches = math.ceil(len(self.train_dataset) / (t.batch_size * self.args.world_size))
        steps = t.max_steps if t.max_steps > 0 else math.ceil(t.epochs * math.ceil(batches / t.accumulate))
        return state.global_step >= steps or self.stops_early()

    def stops_early(self) -> bool:
        """Whether the validation metric has not improved for long enough, as ``metrics.csv`` tells."""
        patience = self.recipe.training.early_stopping
        key = f"val_{self.task.headline}"
        values = [float(r[key]) for r in self.run.read_metrics() if key in r]
        if not patience or not values:
            return False
        sign = 1 if self.task.higher_is_better() else -1
        best = max(range(len(values)), key=lambda i: (sign * values[i], -i))
        return len(values) - 1 - best >= patience

    # ---------------------------------------------------------------- loss

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> torch.Tensor | None:
        if not batch_samples:
            return None
        count = torch.stack([self.objective.count(b) for b in batch_samples]).sum().to(device)
        if self.args.world_size > 1:
            count = self.accelerator.gather(count).sum()
        return count

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The objective's loss; DDP averages gradients over processes, hence the factor."""
        loss = self.objective.loss(model, inputs, num_items_in_batch)
        if isinstance(loss, NamedLosses):
            for name, part in loss.parts.items():
                self.epoch_parts[name] = self.epoch_parts.get(name, 0.0) + part.item()
            loss = loss.total
        return loss * self.accelerator.num_processes if num_items_in_batch is not None else loss

    def training_step(self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None) -> torch.Tensor:
        """One forward and backward pass; keeps the epoch's mean loss."""
        count = len(next(iter(inputs.values())))
        self.objective.at(self.state.global_step / max(1, self.state.max_steps))
        loss: torch.Tensor = super().training_step(model, inputs, num_items_in_batch)
        value = loss.item() / self.accelerator.num_processes
        if math.isnan(value):
            raise UserError(
                f"The loss is not a number at step {self.state.global_step}; lower training.learning_rate, or use "
                "training.precision float32."
            )
        self.epoch_loss += value
        self.epoch_rows += count
        self.on_rows(count * self.args.world_size)
        return loss

    # ---------------------------------------------------------------- optimizer

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """Parameter groups by component; Muon where the recipe says so."""
        if self.optimizer is None:
            training = self.recipe.training
            groups = parameter_groups(
                model or self.model, self.recipe.model, training.learning_rate, training.weight_decay
            )
            if training.optimizer == "muon":
                ratio = training.muon_learning_rate / training.learning_rate
                self.optimizer = MuonWithAdamW(*split_for_muon(groups, ratio))
            else:
                kind, options = self.get_optimizer_cls_and_kwargs(self.args, self.model)
                bare = [{k: v for k, v in g.items() if k != "names"} for g in groups]
                self.optimizer = kind(bare, **options)
        made: torch.optim.Optimizer = self.optimizer
        return made

    # ---------------------------------------------------------------- metrics

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Validation loss and the task's metrics by real prediction; writes a row of ``metrics.csv``."""
        training = self.recipe.training
        seconds = time.monotonic() - self.epoch_started
        loss, parts = self._summed()
        row: dict[str, Any] = {
            "epoch": round(self.state.epoch or 0.0, 6), "step": self.state.global_step,
            "train_loss": loss / max(1, self.epoch_steps),
        }  # fmt: skip
        if parts:
            row["train_total_loss"] = row["train_loss"]
            row |= {f"train_{name}_loss": part / max(1, self.epoch_steps) for name, part in parts.items()}
        metrics: dict[str, float] = {}
        if self.validation and training.evaluate:
            chosen = [self.validation[i] for i in evenly_spread(len(self.validation), self.recipe.evaluation.samples)]
            metrics |= self._validation_losses(chosen)
            metrics |= self.task.measure(chosen, list(self.predictor.predict(chosen)))
        row |= {f"val_{k}": v for k, v in metrics.items()}
        for group in self.optimizer.param_groups if self.optimizer is not None else ():
            part = "" if training.optimizer != "muon" or group.get("part") else "_muon"
            suffix = f"_{group['component']}" if self.recipe.model.learning_rates else ""
            row[f"learning_rate{suffix}{part}"] = group["lr"]
        row |= {
            "seconds": round(seconds, 3), "images_per_second": round(self.epoch_rows * self.args.world_size / max(seconds, 1e-9), 2),
            "memory_gb": round(peak_memory(), 3), "timestamp": datetime.now(UTC).isoformat(timespec="seconds"),
        }  # fmt: skip
        if self.is_world_process_zero():
            self.run.append_metrics(row)
        self._begin_sums()
        logs = {f"eval_{k}": v for k, v in metrics.items()}
        self.log(dict(logs))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics=logs)
        return logs

    @torch.no_grad()
    def _validation_losses(self, examples: Sequence[Example]) -> dict[str, float]:
        """The loss on the validation rows, and its parts where it has any; every row weighs 1."""
        model, size = self.predictor.model, self.recipe.evaluation.batch_size
        training, count = model.training, 0.0
        sums: dict[str, float] = {"loss": 0.0}
        model.eval()
        for start in range(0, len(examples), size):
            mirrors = self.recipe.training.consistency > 0
            rows = [make_row(self.task, e, mirrors) for e in examples[start : start + size]]
            batch = self._prepare_inputs(self.objective.collate(rows))
            with mixed(self.predictor.dtype, self.args.device):
                loss = self.objective.loss(model, batch, 1.0)
            if isinstance(loss, NamedLosses):
                for name, part in loss.parts.items():
                    sums[f"{name}_loss"] = sums.get(f"{name}_loss", 0.0) + part.item()
                loss = loss.total
                sums["total_loss"] = sums.get("total_loss", 0.0) + loss.item()
            sums["loss"] += loss.item()
            count += float(self.objective.count(batch))
        model.train(training)
        return {name: value / max(1.0, count) for name, value in sums.items()}

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        if self.args.metric_for_best_model not in metrics:
            self.is_best = False
            return False
        self.is_best = super()._determine_best_metric(metrics, trial)
        self.control.should_save |= self.is_best
        return self.is_best

    # ---------------------------------------------------------------- checkpoints

    def _get_output_dir(self, trial: Any) -> str:
        return str(self._writing) if getattr(self, "_writing", None) else str(self.run.path)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Writes the checkpoint under a temporary name, renames it, and points ``last`` and ``best`` to it."""
        root = self.run.checkpoints
        # A run that ends inside an epoch (max_steps) must not take the name of the epoch before.
        epoch = math.ceil(round(self.state.epoch or 0.0, 6))
        name = f"epoch-{epoch}" if self.save_kind == _EPOCH_END else f"step-{self.state.global_step}"
        with disk_errors(root):
            root.mkdir(parents=True, exist_ok=True)
        # Every process writes its random state into the same folder.
        self._writing = Path(root / f".writing-{name}")
        if self.is_world_process_zero():
            shutil.rmtree(self._writing, ignore_errors=True)
        self.accelerator.wait_for_everyone()
        loss, parts = self._summed()
        try:
            with disk_errors(root):
                super()._save_checkpoint(model, trial)
                folder = self._writing / f"checkpoint-{self.state.global_step}"
                if self.is_world_process_zero():
                    self.predictor.save_parts(folder)
                    progress = {
                        "loss": loss,
                        "steps": self.epoch_steps,
                        "rows": self.epoch_rows,
                        "parts": parts,
                    }
                    write_text(folder / PROGRESS_FILE, json.dumps(progress))
        except UserError:
            shutil.rmtree(self._writing, ignore_errors=True)
            raise
        except Exception as error:
            shutil.rmtree(self._writing, ignore_errors=True)
            if (
                "No space left" in str(error)
                or shutil.disk_usage(root).free < 1_000_000
                or "file write failed" in str(error)
            ):
                raise UserError(
                    f"{root}: the checkpoint could not be written, the disk is full; free some space, then continue "
                    f"with: foveal train --resume {self.run.path}"
                ) from error
            raise
        finally:
            self.accelerator.wait_for_everyone()
        if self.is_world_process_zero():
            self._publish(folder, root / name)
        self._writing = None  # type: ignore[assignment]
        self.accelerator.wait_for_everyone()

    def _publish(self, folder: Path, target: Path) -> None:
        root = target.parent
        if target.exists():
            shutil.rmtree(target)
        os.replace(folder, target)
        shutil.rmtree(self._writing, ignore_errors=True)
        point(root / "last", target.name)
        measured = bool(self.validation) and self.recipe.training.evaluate
        newest = self.save_kind == _EPOCH_END and (not measured or not (root / "best").exists())
        if self.is_best or newest:
            point(root / "best", target.name)
        pinned = {(root / link).resolve() for link in ("best", "last")}
        epochs = sorted(root.glob("epoch-*"), key=lambda p: int(p.name.split("-")[1]))
        keep = self.recipe.training.keep_epochs
        old = epochs[:-keep] if keep else []
        old += [p for p in root.glob("step-*") if p != target]
        for path in old:
            if path.resolve() not in pinned:
                shutil.rmtree(path)


def point(link: Path, name: str) -> None:
    """Makes ``link`` a symbolic link to its sibling ``name``, in one step; where links cannot be made, a copy."""
    temporary = Path(tempfile.mkdtemp(dir=link.parent, prefix=f".{link.name}."))
    try:
        fresh = temporary / link.name
        try:
            fresh.symlink_to(name)
        except OSError:
            shutil.copytree(link.parent / name, fresh)
            if link.exists():
                shutil.rmtree(link)
        os.replace(fresh, link)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


class EpochFlow(TrainerCallback):  # type: ignore[misc]
    """Epoch numbers for augmentation; when to measure, save and stop."""

    def __init__(self, trainer: FovealTrainer, recipe: Recipe, rows: TrainingRows) -> None:
        self.trainer, self.recipe, self.rows = trainer, recipe, rows

    def on_epoch_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """The data set draws this epoch's augmentation; on the resumed epoch too."""
        self.rows.epoch = int(state.epoch or 0)
        self.trainer.epoch_started = time.monotonic()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, *, train_dataloader: Any, **_: Any
    ) -> None:
        """Measurements and checkpoints inside an epoch."""
        self.trainer.epoch_steps += 1
        every, parts = self.recipe.training.save_steps, self.recipe.training.measurements
        in_epoch = math.ceil(len(train_dataloader) / args.gradient_accumulation_steps)
        position = state.global_step % in_epoch
        measure = parts > 1 and position != 0 and position * parts // in_epoch > (position - 1) * parts // in_epoch
        if measure or (every and state.global_step % every == 0 and state.global_step < state.max_steps):
            self.trainer.save_kind = _STEP
            self.trainer.is_best = False
            control.should_save = True
            control.should_evaluate |= measure

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """The next one is an epoch's, unless a step says otherwise."""
        self.trainer.save_kind = _EPOCH_END

    def on_epoch_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Measure, and save where it is due; ``_determine_best_metric`` adds the best."""
        epoch = math.ceil(round(state.epoch or 0.0, 6))
        control.should_evaluate = True
        control.should_save |= epoch % self.recipe.training.save_epochs == 0 or state.global_step >= state.max_steps

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Stops early; what it stops at is the last checkpoint."""
        stops = self.trainer.stops_early()
        control.should_training_stop |= stops
        control.should_save |= stops


def peak_memory() -> float:
    """Most memory taken so far, in GB: the GPU's where there is one, else this process's."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e9
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def worker_sentence(error: UserError) -> UserError:
    """The sentence of an error that a data worker raised; PyTorch wraps it in a traceback's text."""
    text = str(error)
    if "Original Traceback" not in text:
        return error
    lines = [ln for ln in text.strip().splitlines() if re.match(r"foveal\.errors\.\w+: ", ln)]
    return UserError(lines[-1].split(": ", 1)[1] if lines else text.strip().splitlines()[-1])
