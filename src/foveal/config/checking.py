"""Refuses values of a recipe that are out of range or contradict each other."""

from __future__ import annotations

import math

from foveal.config.sections import Recipe
from foveal.errors import UserError

#: Rates and weights beyond it can only be meant otherwise; far beyond it they are no 32-bit numbers any more.
_LARGEST = 1e6
_LONGEST = 10**12
#: Components that learn with adapter: lora only where they are named; a task's own head learns beside the adapters.
_ADAPTED = ("vision", "projector", "language")


def check(recipe: Recipe) -> None:
    """Refuses values that are out of range or contradict each other, before anything is loaded.

    Raises:
        UserError: Names the key and the remedy.
    """
    _check_least(recipe)
    _check_server(recipe)
    _check_rates_and_shares(recipe)
    _check_length(recipe)
    _check_together(recipe)


def check_ranges(section: object, prefix: str, **ranges: tuple[float, float]) -> None:
    """Refuses values that are out of range.

    Args:
        section: What has the values.
        prefix: What stands before their names in errors, e.g. ``data.``.
        ranges: The least and the largest value of each, by name.

    Raises:
        UserError: One is out of its range.
    """
    for key, (low, high) in ranges.items():
        value = getattr(section, key)
        if not low <= value <= high:
            raise UserError(f"{prefix}{key}: {value} is out of range; give {low:g} to {high:g}.")


def _check_least(recipe: Recipe) -> None:
    """Numbers that have a least value; None is the model's own."""
    t, m, e = recipe.training, recipe.model, recipe.evaluation
    for key, value, least in (
        ("training.batch_size", t.batch_size, 1), ("training.accumulate", t.accumulate, 1), ("training.workers", t.workers, 0),
        ("training.keep_epochs", t.keep_epochs, 0), ("training.save_epochs", t.save_epochs, 1), ("training.save_steps", t.save_steps, 0),
        ("training.early_stopping", t.early_stopping, 0), ("training.measurements", t.measurements, 1), ("training.log_steps", t.log_steps, 1),
        ("training.plateau_patience", t.plateau_patience, 0), ("training.max_grad_norm", t.max_grad_norm, 0),
        ("training.weight_decay", t.weight_decay, 0), ("training.consistency", t.consistency, 0), ("evaluation.batch_size", e.batch_size, 1),
        ("evaluation.max_new_tokens", e.max_new_tokens, 1), ("evaluation.shown", e.shown, 0),
        ("evaluation.samples", e.samples, 0), ("model.max_pixels", m.max_pixels, 1), ("model.lora.r", m.lora.r, 1),
        ("model.lora.alpha", m.lora.alpha, 1),
        ("model.image_size", m.image_size, 1), ("seed", recipe.seed, 0), ("model.server.tries", m.server.tries, 1),
        ("model.server.concurrency", m.server.concurrency, 1),
    ):  # fmt: skip
        if value is not None and not value >= least:
            raise UserError(f"{key}: must be at least {least}, not {value}.")


def _check_server(recipe: Recipe) -> None:
    server = recipe.model.server
    if server.concurrency > 1000:
        raise UserError(f"model.server.concurrency: must be at most 1000, not {server.concurrency}.")
    if not 0 <= server.temperature < math.inf:
        raise UserError(f"model.server.temperature: must be at least 0, not {server.temperature:g}.")
    if not server.timeout > 0:
        raise UserError(f"model.server.timeout: must be more than 0, not {server.timeout:g}.")


def _check_rates_and_shares(recipe: Recipe) -> None:
    t, m = recipe.training, recipe.model
    rates = {f"model.learning_rates: {component}": rate for component, rate in m.learning_rates.items()}
    rates |= {"training.learning_rate": t.learning_rate, "training.muon_learning_rate": t.muon_learning_rate}
    for key, rate in rates.items():
        if not rate > 0:
            raise UserError(f"{key}: must be more than 0, not {rate:g}.")
        if rate > _LARGEST:
            raise UserError(f"{key}: must be at most {_LARGEST:g}, not {rate:g}.")
    for key, value in (("training.weight_decay", t.weight_decay), ("training.consistency", t.consistency)):
        if value > _LARGEST:
            raise UserError(f"{key}: must be at most {_LARGEST:g}, not {value:g}.")
    for key, share in (
        ("training.consistency_ramp", t.consistency_ramp), ("training.plateau_factor", t.plateau_factor),
        ("training.label_smoothing", t.label_smoothing), ("model.lora.dropout", m.lora.dropout)
    ):  # fmt: skip
        if not 0 <= share < 1:
            raise UserError(f"{key}: must be a share from 0 to below 1, not {share:g}.")


def _check_length(recipe: Recipe) -> None:
    """How long is trained, and the seed."""
    t = recipe.training
    if not (0 <= t.warmup < 1 or (1 <= t.warmup < math.inf and t.warmup == int(t.warmup))):
        raise UserError(f"training.warmup: must be a share from 0 to below 1 or a number of steps, not {t.warmup:g}.")
    if not 0 < t.epochs < math.inf and t.max_steps <= 0:
        raise UserError(f"training.epochs: must be more than 0, not {t.epochs:g} (or set training.max_steps).")
    if t.max_steps <= 0 and t.epochs > _LONGEST:
        raise UserError(f"training.epochs: must be at most {_LONGEST:g}, not {t.epochs:g}.")
    if t.max_steps > _LONGEST:
        raise UserError(f"training.max_steps: must be at most {_LONGEST:g}, not {t.max_steps:g}.")
    if recipe.seed >= 2**32:
        raise UserError(f"seed: must be below 2**32, not {recipe.seed}.")


def _check_together(recipe: Recipe) -> None:
    """Values that are possible, but not with each other."""
    t, m = recipe.training, recipe.model
    if m.adapter == "lora" and not m.lora.components:
        raise UserError("model.lora.components: names no component; give one, or set model.adapter to none.")
    for component in m.learning_rates:
        listed = component in (*m.lora.components, *m.lora.also_train)
        if component in m.freeze or (m.adapter == "lora" and component in _ADAPTED and not listed):
            remedy = "take it out of model.freeze" if component in m.freeze else "name it in model.lora.components"
            raise UserError(
                f"model.learning_rates: {component} is frozen and learns at no rate; leave it out, or {remedy}."
            )
    if not t.evaluate and (t.schedule == "plateau" or t.early_stopping):
        raise UserError(
            "training.evaluate: schedule plateau and early_stopping watch the validation metric; set it to true."
        )
