"""The one trainer, on `transformers.Trainer`: our losses, real predictions for metrics, and atomic checkpoints."""

from __future__ import annotations

import math
import re
import shutil
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import Trainer, TrainerCallback, TrainerState, TrainingArguments

from foveal.asking.models import evaluating, precision, save_parts
from foveal.errors import UserError
from foveal.examples import Example, evenly_spread
from foveal.files import disk_errors, to_json, write_text
from foveal.runs import Run
from foveal.training.callbacks import EpochFlow
from foveal.training.checkpoints import PROGRESS_FILE, WRITE_ERRORS, Checkpoint, checkpoint_bytes, commit, not_written
from foveal.training.epochs import Epoch, steps_in_all, stops_early
from foveal.training.objectives import NamedLosses
from foveal.training.optimizers import MuonWithAdamW, split_for_muon
from foveal.training.rows import make_row
from foveal.training.setup import Setup
from foveal.vlm.adapters import parameter_groups
from foveal.vlm.loading import lacks_memory


class FovealTrainer(Trainer):  # type: ignore[misc]
    """Trains one model on one objective and measures it by the task's own metric.

    Args:
        setup: What the training is made of.
        run: Where everything is written.
        arguments: Settings of the engine.
        callbacks: Further ones beside the trainer's own.

    Attributes:
        epoch: The running epoch.
        history: Rows of ``metrics.csv``.
        best: The step of the best checkpoint.
    """

    optimizer: Any
    control: Any

    def __init__(
        self, setup: Setup, run: Run, arguments: TrainingArguments, *, callbacks: Sequence[TrainerCallback] = ()
    ) -> None:
        self.epoch = Epoch()
        self.history: list[dict[str, Any]] = []
        self.best: int | None = None
        self._committed = False
        super().__init__(
            model=setup.model.model, args=arguments, train_dataset=setup.rows, eval_dataset=setup.rows,
            data_collator=setup.objective.collate,
            callbacks=[EpochFlow(setup.recipe, self.epoch, setup.rows, self.stops_early), *callbacks],
        )  # fmt: skip
        self.recipe, self.run, self.task, self.objective = setup.recipe, run, setup.task, setup.objective
        self.trained, self.validation, self.asker = setup.model, setup.data.validation.examples, setup.asker
        # Our losses are sums over the whole optimizer step's answer tokens (or rows): nothing is left to scale.
        self.model_accepts_loss_kwargs = True
        self.loss_is_scaled_for_ga = True
        self._writing: Path | None = None

    def take_up(self, checkpoint: Checkpoint) -> None:
        """Goes on with the measurements, the best and the running epoch's sums of a checkpoint."""
        self.history, self.best, self._committed = list(checkpoint.history), checkpoint.best, True
        self.epoch.resume(checkpoint.sums, is_main=self.is_world_process_zero())

    def _summed(self) -> tuple[float, dict[str, float]]:
        """The running epoch's loss and its parts, of all processes together."""
        if self.args.world_size == 1:
            return self.epoch.loss, self.epoch.parts
        names = list(self.epoch.parts)
        own = [self.epoch.loss, *(self.epoch.parts[n] for n in names)]
        whole: Any = self.accelerator.reduce(torch.tensor(own, device=self.args.device), "sum")
        loss, *parts = whole.tolist()
        return loss, dict(zip(names, parts, strict=True))

    def finished(self, state: TrainerState) -> bool:
        """Whether a checkpoint's state is the end of the training; the engine itself would take one step more."""
        steps = steps_in_all(self.recipe.training, len(self.train_dataset), self.args.world_size)
        return state.global_step >= steps or self.stops_early()

    def stops_early(self) -> bool:
        """Whether the validation metric has not improved for long enough."""
        key = f"val_{self.task.headline}"
        values = [float(r[key]) for r in self.history if key in r]
        return stops_early(self.recipe.training, values, higher_is_better=self.task.higher_is_better())

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
            self.epoch.add_parts(loss.parts)
            loss = loss.total
        return loss * self.accelerator.num_processes if num_items_in_batch is not None else loss

    def training_step(self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None) -> torch.Tensor:
        """One forward and backward pass; keeps the epoch's mean loss."""
        count = len(next(iter(inputs.values())))
        self.objective.at(self.state.global_step / max(1, self.state.max_steps))
        loss: torch.Tensor = super().training_step(model, inputs, num_items_in_batch)
        value = loss.item() / self.accelerator.num_processes
        if not math.isfinite(value):
            raise LossNotFinite(
                f"The loss is not a number at step {self.state.global_step}; lower training.learning_rate, or use "
                "training.precision float32."
            )
        self.epoch.loss += value
        self.epoch.rows += count
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
        """Validation loss and the task's metrics by real prediction: a row of ``metrics.csv``."""
        seconds = time.monotonic() - self.epoch.started
        row = self._training_losses()
        metrics: dict[str, float] = {}
        if self.validation and self.recipe.training.evaluate:
            chosen = [self.validation[i] for i in evenly_spread(len(self.validation), self.recipe.evaluation.samples)]
            metrics |= self._validation_losses(chosen)
            metrics |= self.task.measure(chosen, list(self.asker.ask(chosen)))
        # Those of each class would be hundreds of columns; results.json has them.
        row |= {f"val_{k}": v for k, v in metrics.items() if "/" not in k}
        row |= self._learning_rates()
        rate = self.epoch.rows * self.args.world_size / max(seconds, 1e-9)
        row |= {
            "seconds": round(seconds, 3), "images_per_second": round(rate, 2),
            "memory_gb": round(peak_memory(), 3), "timestamp": datetime.now(UTC).isoformat(timespec="seconds"),
        }  # fmt: skip
        self.history.append(row)
        self.epoch.measured = self.state.global_step
        self.epoch.begin()
        logs = {f"eval_{k}": v for k, v in metrics.items()}
        self.log(dict(logs))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics=logs)
        return logs

    def _training_losses(self) -> dict[str, Any]:
        """The epoch's columns of ``metrics.csv``: where the training is, its mean loss and the parts of that."""
        loss, parts = self._summed()
        steps = max(1, self.epoch.steps)
        row: dict[str, Any] = {
            "epoch": round(self.state.epoch or 0.0, 6), "step": self.state.global_step, "train_loss": loss / steps,
        }  # fmt: skip
        if parts:
            row["train_total_loss"] = row["train_loss"]
            row |= {f"train_{name}_loss": part / steps for name, part in parts.items()}
        return row

    def _learning_rates(self) -> dict[str, float]:
        """The learning rates' columns: one for each component where they differ, one for Muon's matrices."""
        rates: dict[str, float] = {}
        for group in self.optimizer.param_groups if self.optimizer is not None else ():
            part = "" if self.recipe.training.optimizer != "muon" or group.get("part") else "_muon"
            component = f"_{group['component']}" if self.recipe.model.learning_rates else ""
            rates[f"learning_rate{component}{part}"] = group["lr"]
        return rates

    @torch.no_grad()
    def _validation_losses(self, examples: Sequence[Example]) -> dict[str, float]:
        """The loss on the validation rows, and its parts where it has any; every row weighs 1."""
        model, size = self.trained.model, self.recipe.evaluation.batch_size
        dtype, count = precision(self.recipe, self.trained.device), 0.0
        sums: dict[str, float] = {"loss": 0.0}
        for start in range(0, len(examples), size):
            mirrors = self.recipe.training.consistency > 0
            rows = [make_row(self.task, e, mirrors) for e in examples[start : start + size]]
            batch = self._prepare_inputs(self.objective.collate(rows))
            with evaluating(model, dtype):
                loss = self.objective.loss(model, batch, 1.0)
            if isinstance(loss, NamedLosses):
                for name, part in loss.parts.items():
                    sums[f"{name}_loss"] = sums.get(f"{name}_loss", 0.0) + part.item()
                loss = loss.total
                sums["total_loss"] = sums.get("total_loss", 0.0) + loss.item()
            sums["loss"] += loss.item()
            count += float(self.objective.count(batch))
        return {name: value / max(1.0, count) for name, value in sums.items()}

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        """Whether the last measurement is the best; writes ``metrics.csv`` where no checkpoint will."""
        known = self.args.metric_for_best_model in metrics
        self.epoch.is_best = known and super()._determine_best_metric(metrics, trial)
        self.control.should_save |= self.epoch.is_best
        # The table begins with the first checkpoint: where it is there, there was one.
        if self._committed and not self.control.should_save and self.is_world_process_zero():
            self.run.rewrite_metrics(self.history)
        return self.epoch.is_best

    # ---------------------------------------------------------------- checkpoints

    def _get_output_dir(self, trial: Any) -> str:
        return str(self._writing or self.run.path)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Writes the checkpoint under a temporary name and commits it."""
        root = self.run.checkpoints
        # A run that ends inside an epoch (max_steps) must not take the name of the epoch before.
        epoch = math.ceil(round(self.state.epoch or 0.0, 6))
        name = f"epoch-{epoch}" if self.epoch.checkpoint == "epoch" else f"step-{self.state.global_step}"
        measured = bool(self.validation) and self.recipe.training.evaluate
        newest = self.epoch.checkpoint == "epoch" and (not measured or self.best is None)
        if self.epoch.is_best or newest:
            self.best = self.state.global_step
        with disk_errors(root):
            root.mkdir(parents=True, exist_ok=True)
        # Every process writes its random state into the same folder.
        writing = self._writing = Path(root / f".writing-{name}")
        if self.is_world_process_zero():
            shutil.rmtree(writing, ignore_errors=True)
        self.accelerator.wait_for_everyone()
        try:
            folder = self._write_checkpoint(model, trial, writing)
        finally:
            self.accelerator.wait_for_everyone()
        if self.is_world_process_zero():
            keep = self.recipe.training.keep_epochs
            with disk_errors(root):
                commit(self.run, folder, name, best=self.best, history=self.history, keep=keep)
        self._writing, self._committed = None, True
        self.accelerator.wait_for_everyone()

    def _write_checkpoint(self, model: nn.Module, trial: Any, writing: Path) -> Path:
        """Writes a checkpoint below a temporary folder, which is gone where that fails.

        Raises:
            UserError: The disk is full, or refuses the files for another reason.
        """
        folder = writing / f"checkpoint-{self.state.global_step}"
        loss, parts = self._summed()
        # What was written is taken away by some libraries that fail, so what is free is asked before.
        needed, free = checkpoint_bytes(self.recipe, self.trained.model), shutil.disk_usage(writing.parent).free
        try:
            super()._save_checkpoint(model, trial)
            if self.is_world_process_zero():
                save_parts(self.trained, folder)
                account = {"history": self.history, "best": self.best, "processes": self.args.world_size}
                write_text(folder / PROGRESS_FILE, to_json(self.epoch.sums(loss, parts) | account))
        except WRITE_ERRORS as error:
            shutil.rmtree(writing, ignore_errors=True)
            if lacks_memory(error):
                raise
            raise not_written(error, self.run, needed=needed, free=free) from error
        except BaseException:
            shutil.rmtree(writing, ignore_errors=True)
            raise
        return folder


class LossNotFinite(UserError):
    """The loss is no number any more, mostly for too high a learning rate."""


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
