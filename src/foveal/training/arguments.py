"""A recipe's settings as those of the engine, `transformers.Trainer`."""

from __future__ import annotations

import importlib.util

import torch
from transformers import TrainingArguments

from foveal.config.sections import Recipe
from foveal.errors import UserError
from foveal.runs import Run
from foveal.tasks.task import Task
from foveal.vlm.loading import pick_device

_SCHEDULES = {
    "cosine": "cosine", "linear": "linear", "constant": "constant_with_warmup", "plateau": "reduce_lr_on_plateau",
}  # fmt: skip
_OPTIMIZERS = {
    "adamw": "adamw_torch", "muon": "adamw_torch", "adafactor": "adafactor", "adamw_8bit": "adamw_8bit",
    "paged_adamw_8bit": "paged_adamw_8bit",
}  # fmt: skip


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


def engine_arguments(recipe: Recipe, run: Run, task: Task, dtype: torch.dtype) -> TrainingArguments:
    """The engine's settings.

    Args:
        recipe: The resolved recipe.
        run: Where everything is written.
        task: Its headline metric chooses the best checkpoint.
        dtype: Type of the forward pass.
    """
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
