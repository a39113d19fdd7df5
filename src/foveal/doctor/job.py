"""Checks of the job itself: the task's data, the model, the label mask, a pass, memory and a prediction."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import torch
import transformers
from accelerate.utils import send_to_device
from huggingface_hub import snapshot_download
from torch import nn
from torch.utils._pytree import tree_leaves

from foveal.asking.models import mixed, precision
from foveal.asking.opening import make_asker, open_model
from foveal.config.sections import Model, Recipe
from foveal.devices import peak_process_memory, process_memory
from foveal.doctor.checks import Checks, gigabytes
from foveal.doctor.machine import Need, free_space
from foveal.errors import UserError
from foveal.examples import Example, Loaded, Split
from foveal.metrics.formats import decimals
from foveal.runs import Run
from foveal.tasks.capabilities import own_models
from foveal.tasks.registry import find_task, open_task
from foveal.tasks.specialist import Specialist
from foveal.tasks.task import Task, load_split
from foveal.terminal import counted
from foveal.training.arguments import check_packages
from foveal.training.checkpoints import checkpoint_bytes
from foveal.training.objectives import NamedLosses, Objective, make_objective
from foveal.training.rows import Row, TrainingRows
from foveal.vlm import adapters, memory
from foveal.vlm.components import by_component
from foveal.vlm.finding import resolve
from foveal.vlm.loading import Vlm, load, memory_errors

#: Of so many first rows, the largest is passed through the model.
_LOOKED_AT: Final = 8
#: A memory estimate above this share of what there is, is a drawback.
_TIGHT: Final = 0.9
#: Bytes of a weight while it is loaded. Quantised: vision tower and projector stay in 16 bits.
_LOADED_BYTES: Final = {"nf4": 0.75, "int8": 1.2}


@dataclass
class Job:
    """A recipe's job, examined step by step; each step needs those before it.

    Attributes:
        recipe: The recipe.
        run: The run whose best checkpoint is examined, or None.
        device: Where the model goes.
        checks: Where the findings go.
        blocked: What would have to come from the Hub and cannot.
    """

    recipe: Recipe
    run: Run | None
    device: torch.device
    checks: Checks
    blocked: Sequence[Need] = ()

    def examine(self) -> None:
        """All steps, as far as they can be done."""
        recipe, checks = self.recipe, self.checks
        transformers.set_seed(recipe.seed)
        checks.attempt("extras", lambda: check_packages(recipe))
        task, splits = self._data()
        process = process_memory() if self.device.type == "cpu" else 0
        model = None
        own = {recipe.model.id, "*"} & set(own_models(find_task(recipe.task)))
        if (task is None and own) or self._is_blocked("model.id") or self._is_blocked("model.sam"):
            checks.add("model", "skip", "not loaded: what it needs is not there.")
        else:
            model = checks.attempt("model", lambda: self._model(task))
        train = splits.get("train")
        if task is None or train is None or model is None:
            what = "model" if model is None else "training rows"
            checks.add(
                "step", "skip", f"no forward and backward pass, memory estimate or prediction: there is no {what}."
            )
            return
        opened = task, model
        parts = checks.attempt("label mask", lambda: self._mask(*opened, train))
        if parts is not None:
            objective, row = parts
            passes = checks.attempt("step", lambda: self._step(opened[1], objective, row))
            if passes is not None:
                checks.attempt("memory needed", lambda: self._memory(opened[1].model, passes, process))
                checks.attempt("checkpoints", lambda: self._checkpoints(opened[1].model, len(train.examples)))
            opened[1].model.zero_grad(set_to_none=True)
        asked = splits.get(recipe.evaluation.split, train)
        checks.attempt("prediction", lambda: self._prediction(*opened, asked.examples[0]))

    def _is_blocked(self, key: str) -> bool:
        return any(n.key == key for n in self.blocked)

    # ---------------------------------------------------------------- data

    def _data(self) -> tuple[Task | None, dict[Split, Loaded]]:
        """The task, and those splits that load."""
        if self._is_blocked("data.source"):
            self.checks.add("data", "skip", "not loaded: it is not in the cache, and the Hub cannot be reached.")
            return None, {}
        task = self.checks.attempt("data", lambda: open_task(self.recipe))
        if task is None:
            return None, {}
        self.recipe = replace(self.recipe, data=task.data)
        wanted: list[Split] = ["train"]
        if self.recipe.training.evaluate:
            wanted.append("validation")
        wanted.append(self.recipe.evaluation.split)
        splits: dict[Split, Loaded] = {}
        for split in dict.fromkeys(wanted):
            loaded = self.checks.attempt(f"data: {split}", lambda split=split: self._split(task, split))  # type: ignore[misc]
            if loaded is not None:
                splits[split] = loaded
        return task, splits

    def _split(self, task: Task, split: Split) -> Loaded:
        loaded = load_split(task, split)
        rows, refused = len(loaded.examples), len(loaded.refused)
        first = loaded.examples[0]
        sizes = [picture.open().size for picture in first.images]
        shown = ", ".join(f"{w} x {h}" for w, h in sizes)
        text = f"{counted(rows, 'row')} of {loaded.source}; the first opens ({shown}), its truth is {first.truth!r}"
        facts: dict[str, Any] = {"rows": rows, "refused": refused, "notes": list(loaded.notes)}
        if refused:
            row, reason = loaded.refused[0]
            remedy = "repair these rows, or go on without them."
            self.checks.add(
                f"data: {split}", "warn", f"{text}; {refused} refused, e.g. {row}: {reason}", remedy, **facts
            )
        else:
            self.checks.add(f"data: {split}", "pass", text, **facts)
        return loaded

    # ---------------------------------------------------------------- model

    def _model(self, task: Task | None) -> Vlm | Specialist[Any]:
        """The model as the recipe trains it; a run's, from its best checkpoint."""
        recipe, weights = self.recipe, None
        source = recipe.model.id
        if self.run is not None and (self.run.checkpoints.is_dir() and any(self.run.checkpoints.glob("[!.]*"))):
            weights = self.run.checkpoint("best")
            source = str(weights)
            recipe = replace(recipe, model=replace(recipe.model, reset=[]))  # those would be drawn anew once more
        elif self.run is not None:
            self.checks.add("checkpoint", "warn", f"{self.run.path} has none yet; the recipe's own model is examined.")
        if recipe.model.id not in own_models(find_task(recipe.task)):
            refuse_too_large(recipe.model, self.device)
        with memory_errors():
            model: Vlm | Specialist[Any]
            if task is None:
                model = load(recipe.model, weights=weights, training=True)
            else:
                model = open_model(task, recipe, weights=weights, training=True)
        rows = adapters.describe(model.model)
        parts = ", ".join(f"{c} {n} ({share})" for c, n, _, share in rows[:-1])
        _, total, learn, share = rows[-1]
        text = f"{source} ({model.family}) on {model.device}: {total} parameters, {learn} learn ({share}): {parts}"
        table = {c: {"parameters": n, "trainable": t} for c, n, t, _ in rows}
        self.checks.add("model", "pass", text, components=table)
        return model

    # ---------------------------------------------------------------- label mask

    def _mask(self, task: Task, model: Vlm | Specialist[Any], train: Loaded) -> tuple[Objective, Row]:
        """The objective, and the largest of the first rows; shows the first as the loss sees it."""
        objective = make_objective(self.recipe, task, model)
        rows = TrainingRows(task, train.examples, self.recipe.seed, mirrors=self.recipe.training.consistency > 0)
        mask = objective.preview([rows[0]])
        learned = int(objective.count(objective.collate([replace(rows[0], weight=1.0)])))
        if learned < 1:
            self.checks.add("label mask", "fail", f"nothing is learned of the first row: {mask}", "correct its answer.")
        else:
            self.checks.add("label mask", "pass", f"the first row, of which [[ ]] is learned: {mask}", learned=learned)
        return objective, max((rows[i] for i in range(min(_LOOKED_AT, len(rows)))), key=_size)

    # ---------------------------------------------------------------- forward and backward

    def _step(self, model: Vlm | Specialist[Any], objective: Objective, row: Row) -> memory.Passes | None:
        """A forward and a backward pass, whose loss and gradients are looked at.

        Returns:
            Makes a batch of the row so many times; returns what does a pass over it, and the batch's own bytes. None
            where the loss is no number.
        """
        dtype, inner = precision(self.recipe, model.device), model.model
        inner.train()

        def passes(times: int) -> tuple[Callable[[], float], int]:
            batch = send_to_device(objective.collate([row] * times), model.device)

            def work() -> float:
                with mixed(dtype, model.device):
                    loss: Any = objective.loss(inner, batch, None)
                total = loss.total if isinstance(loss, NamedLosses) else loss
                total.backward()
                return float(total.detach())

            tensors = [t for t in tree_leaves(batch) if isinstance(t, torch.Tensor)]
            return work, sum(t.numel() * t.element_size() for t in tensors)

        with memory_errors():
            loss = passes(1)[0]()
        kind = str(dtype).removeprefix("torch.")
        if not math.isfinite(loss):
            self.checks.add("step", "fail", f"the loss of a row is {loss} in {kind}.", _why_not_finite(inner))
            return None
        self.checks.add("step", "pass", f"forward and backward in {kind}, loss {loss:.4f}", loss=loss)
        self._gradients(inner)
        return passes

    def _gradients(self, model: nn.Module) -> None:
        """Every component that learns has a gradient, and no other."""
        parts, bad, odd = [], [], []
        for component, parameters in by_component(model).items():
            learn = [p for _, p in parameters if p.requires_grad]
            with_gradient = [p for p in learn if p.grad is not None]
            if any(p.grad is not None for _, p in parameters if not p.requires_grad):
                bad.append(f"{component} is frozen and got one")
            if not all(bool(torch.isfinite(p.grad).all()) for p in with_gradient if p.grad is not None):
                bad.append(f"that of {component} is not finite")
            if learn and not with_gradient:
                bad.append(f"{component} learns and got none")
            elif learn and not any(bool(p.grad.any()) for p in with_gradient if p.grad is not None):
                odd.append(f"that of {component} is zero")
            parts.append(
                f"{component} {len(with_gradient)} of {len(learn)} tensors" if learn else f"{component} frozen, none"
            )
        text = ", ".join(parts)
        if bad:
            remedy = "name the family's parts with register_components, or set training.precision to float32."
            self.checks.add("gradients", "fail", f"{'; '.join(bad)} ({text})", remedy)
        elif odd:
            remedy = "look at these weights: something between them and the loss is zero."
            self.checks.add("gradients", "warn", f"{'; '.join(odd)} ({text})", remedy)
        else:
            self.checks.add("gradients", "pass", text)

    # ---------------------------------------------------------------- memory

    def _memory(self, model: nn.Module, passes: memory.Passes, process: int) -> None:
        training = self.recipe.training
        size = training.batch_size
        with memory_errors():
            activations = memory.Activations.measured(passes, size)
        need = memory.estimate(model, training.optimizer, size, activations, process)
        have = memory.available(self.device)
        used = torch.cuda.max_memory_allocated(self.device) if self.device.type == "cuda" else peak_process_memory()
        parts = {
            "weights": need.weights, "gradients": need.gradients, f"{training.optimizer}'s states": need.optimizer,
            f"activations of {size} rows": need.activations, "the process": need.process,
        }  # fmt: skip
        text = (
            f"about {gigabytes(need.total)} of {gigabytes(have)} on {self.device}: "
            + ", ".join(f"{name} {gigabytes(count)}" for name, count in parts.items() if count)
            + f"; used here at most {gigabytes(used)}"
        )
        state = "fail" if need.total > have else "warn" if need.total > _TIGHT * have else "pass"
        self.checks.add(
            "memory needed", state, text, "" if state == "pass" else _smaller(self.recipe, need, activations, have),  # type: ignore[arg-type]
            total=need.total, available=have, used=used, weights=need.weights, gradients=need.gradients,
            optimizer=need.optimizer, activations=need.activations,
            process=need.process,
        )  # fmt: skip

    def _checkpoints(self, model: nn.Module, rows: int) -> None:
        """Whether the disk has room for the checkpoints of a run."""
        training = self.recipe.training
        one = checkpoint_bytes(self.recipe, model)
        epochs = training.epochs
        if training.max_steps > 0:
            epochs = training.max_steps * training.batch_size * training.accumulate / rows
        made = max(1, math.ceil(epochs)) * (training.measurements if training.keep_epochs == 0 else 1)
        # Beside the epochs that are kept: the best one, the last one, and the one that is being written.
        kept = made if training.keep_epochs == 0 else min(made, training.keep_epochs) + 2
        free = free_space(Path(self.recipe.output))
        text = f"{kept} of about {gigabytes(one)} each, {gigabytes(free)} free in {self.recipe.output}"
        remedy = "free some space, choose another folder with output, or lower training.keep_epochs."
        short = kept * one > free
        self.checks.add("checkpoints", "fail" if short else "pass", text, remedy if short else "", each=one, kept=kept)

    # ---------------------------------------------------------------- prediction

    def _prediction(self, task: Task, model: Vlm | Specialist[Any], example: Example) -> None:
        prediction = next(make_asker(task, model, self.recipe).ask([example]))
        chances = list((prediction.probabilities or {}).values())
        if not all(map(math.isfinite, chances)):
            text = f"the probabilities of {example.id} are not numbers."
            self.checks.add("prediction", "fail", text, _why_not_finite(model.model))
        elif prediction.value is None:
            remedy = "normal before any training; after it, look at the prompt and at evaluation.max_new_tokens."
            self.checks.add("prediction", "warn", f"the reply {prediction.text[:80]!r} cannot be parsed.", remedy)
        else:
            sure = f", probability {decimals(prediction.confidence, 3)}" if prediction.confidence is not None else ""
            self.checks.add("prediction", "pass", f"{example.id}: {prediction.value!r} (truth {example.truth!r}{sure})")


def refuse_too_large(model: Model, device: torch.device) -> None:
    """Refuses a model on this machine's disk whose weights alone are more than a device's memory, before any are read.

    Raises:
        UserError: They are.
    """
    source = resolve(model)
    if not Path(source).is_dir():
        try:
            source = snapshot_download(source, revision=model.revision, local_files_only=True)
        except (OSError, ValueError):
            return
    half = model.adapter != "none" and device.type == "cuda" if model.dtype == "auto" else model.dtype != "float32"
    size = memory.stored_parameters(Path(source)) * _LOADED_BYTES.get(model.quantization, 2 if half else 4)
    free = memory.available(device)
    if size > free:
        raise UserError(
            f"model.id: the weights of {model.id} alone take {gigabytes(size)}, and {gigabytes(free)} are free; use "
            "model.adapter: lora with model.quantization: nf4, a smaller model, or a machine with more memory."
        )


def _size(row: Row) -> tuple[int, int]:
    prompt = row.prompt
    return sum(im.width * im.height for im in prompt.opened()), len(prompt.user) + len(prompt.answer or "")


def _why_not_finite(model: nn.Module) -> str:
    """The first weight that is no finite number, or what else to look at."""
    for name, parameter in model.named_parameters():
        if parameter.is_floating_point() and not bool(torch.isfinite(parameter).all()):
            return f"the weight {name} holds values that are no numbers; load the model anew from where it came."
    return "the weights are finite, so set training.precision to float32."


def _smaller(recipe: Recipe, need: memory.Estimate, activations: memory.Activations, have: int) -> str:
    """What to change for a training that does not fit, or hardly."""
    training, model = recipe.training, recipe.model
    room = _TIGHT * have - (need.total - need.activations)
    ways, size = [], training.batch_size
    while size > 1 and activations.of(size) > room:
        size //= 2
    if size < training.batch_size and activations.of(size) <= room:
        more = training.accumulate * training.batch_size // size
        ways.append(f"training.batch_size {size} with training.accumulate {more} would fit")
    if not model.gradient_checkpointing:
        ways.append("set model.gradient_checkpointing to true")
    if model.adapter == "none":
        ways.append("use model.adapter: lora")
    elif model.quantization == "none":
        ways.append("use model.quantization: nf4")
    return f"{', or '.join([*ways, 'lower model.image_size'])}."
