"""Models that are asked in free text, whether they run here or are served elsewhere."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch

from foveal.asking.asker import make_encoder, mixed, precision
from foveal.asking.replies import Job, Replies, Reply, reply_key
from foveal.asking.served import Endpoint, Patience
from foveal.config.reading import read_recipe
from foveal.config.sections import Recipe
from foveal.errors import UserError
from foveal.runs import is_run, open_run
from foveal.vlm.encoding import Encoder
from foveal.vlm.generation import generate
from foveal.vlm.loading import Vlm, load, memory_errors

#: Settings of the section model that say something of a served model too: they concern its pictures, not its weights.
_SERVED_KEYS = ("model.max_pixels",)


class Asker(Protocol):
    """A model that answers prompts."""

    def ask(self, jobs: Sequence[Job], replies: Replies, progress: Callable[[int], None] | None = None) -> list[Reply]:
        """The replies to all questions, in their order; those in ``replies`` are not asked again."""
        ...


@dataclass(frozen=True)
class Served:
    """How a served model is reached.

    Attributes:
        name: The model's name on the server; None takes the only one that the server lists.
        key_variable: Environment variable that holds the server's key; None sends no key.
        temperature: 0 takes the likeliest token.
        seed: Of the server's choice of tokens, where the temperature is not 0.
        patience: How the server is treated.
    """

    name: str | None = None
    key_variable: str | None = None
    temperature: float = 0.0
    seed: int = 0
    patience: Patience = field(default_factory=Patience)


@dataclass(frozen=True)
class Opened:
    """A model that is ready to be asked.

    Attributes:
        asker: The model.
        facts: What it is, for the results.
    """

    asker: Asker
    facts: Mapping[str, Any]


class LocalModel:
    """A loaded model, which replies greedily.

    Args:
        vlm: The model.
        encoder: Its encoder.
        dtype: Type of the forward pass.
        name: Tells it from all other models; the replies are kept under it.
        settings: What else its replies depend on.
        batch_size: Questions at a time.
        max_new_tokens: Longest reply.
    """

    def __init__(
        self,
        vlm: Vlm,
        encoder: Encoder,
        dtype: torch.dtype,
        *,
        name: str,
        settings: Mapping[str, Any],
        batch_size: int,
        max_new_tokens: int,
    ) -> None:
        self.vlm, self.encoder, self.dtype, self.name, self.batch_size = vlm, encoder, dtype, name, batch_size
        self.max_new_tokens = max_new_tokens
        self._settings = {**settings, "max_new_tokens": max_new_tokens, "precision": str(dtype)}

    def ask(self, jobs: Sequence[Job], replies: Replies, progress: Callable[[int], None] | None = None) -> list[Reply]:
        """See ``Asker``.

        Raises:
            UserError: A picture is unreadable, a question too long, or memory does not suffice.
        """
        found: list[Reply] = []
        for start in range(0, len(jobs), self.batch_size):
            batch = jobs[start : start + self.batch_size]
            prompts = [job.prompt() for job in batch]
            keys = [reply_key(self.name, prompt, self._settings) for prompt in prompts]
            new = {key: i for i, key in enumerate(keys) if replies.get(key) is None}
            if new:
                places = list(new.values())
                with memory_errors(), mixed(self.dtype, self.vlm.device):
                    texts = generate(
                        self.vlm,
                        self.encoder,
                        [prompts[i] for i in places],
                        max_new_tokens=self.max_new_tokens,
                        names=[batch[i].name for i in places],
                    )
                for i, text in zip(places, texts, strict=True):
                    replies.add(keys[i], Reply(text))
            for key in keys:
                reply = replies.get(key)
                assert reply is not None
                found.append(reply)
            if progress is not None:
                progress(len(batch))
        return found


def is_url(model: str) -> bool:
    """Whether a model is named by the address of its server."""
    return model.lower().startswith(("http://", "https://"))


def open_model(
    model: str,
    settings: Sequence[str],
    *,
    batch_size: int,
    max_new_tokens: int,
    served: Served,
    checkpoint: str = "best",
) -> Opened:
    """Loads a model, or reaches for the server of one.

    Args:
        model: The folder of a run; ``builtin``, a model's folder or Hub id; or the address of a server.
        settings: ``--model.key value`` words, as a recipe's.
        batch_size: Questions at a time of a model that runs here.
        max_new_tokens: Longest reply.
        served: How a served model is reached.
        checkpoint: Which of a run's.

    Raises:
        UserError: There is no such model, it cannot be loaded or reached, or a setting does not suit it.
    """
    if is_url(model):
        return _open_served(model, settings, max_new_tokens, served)
    for option, given in {
        "--served_model": served.name,
        "--api_key_env": served.key_variable,
        "--temperature": served.temperature,
    }.items():
        if given:
            raise UserError(
                f"{option}: is for served models; {model!r} is no address, and models that run here reply greedily."
            )
    recipe, weights = _recipe(model, settings, checkpoint)
    vlm = load(recipe.model, weights=weights)
    dtype = precision(recipe, vlm.device)
    folder = weights or (Path(vlm.source) if Path(vlm.source).is_dir() else None)
    version = fingerprint(folder) if folder is not None else getattr(vlm.base.config, "_commit_hash", None)
    kept = {k: v for k, v in asdict(recipe.model).items() if k in ("dtype", "quantization", "image_size", "resolution")}
    asker = LocalModel(
        vlm,
        make_encoder(vlm, recipe),
        dtype,
        name=f"{recipe.model.id} {version}",
        settings=kept,
        batch_size=batch_size,
        max_new_tokens=max_new_tokens,
    )
    facts = {
        "model": recipe.model.id, "version": version, "run": model if weights else None,
        "checkpoint": weights.name if weights else None, "family": vlm.family, "device": str(vlm.device),
        "precision": str(dtype).removeprefix("torch."), "parameters": sum(p.numel() for p in vlm.model.parameters()),
    }  # fmt: skip
    return Opened(asker, {k: v for k, v in facts.items() if v is not None})


def _recipe(model: str, settings: Sequence[str], checkpoint: str) -> tuple[Recipe, Path | None]:
    """The recipe whose model section is used, and the checkpoint of a run."""
    if is_run(model):
        run = open_run(model)
        return read_recipe(run.recipe, settings), run.checkpoint(checkpoint)
    # Any task's recipe will do: only its section model is read.
    return read_recipe(None, ["--task", "blindtest/lines", "--model.id", model, *settings]), None


def _open_served(model: str, settings: Sequence[str], max_new_tokens: int, served: Served) -> Opened:
    for word in settings:
        name = word.removeprefix("--").split("=", 1)[0]
        if word.startswith("--") and name not in _SERVED_KEYS:
            raise UserError(
                f"{word.split('=', 1)[0]}: has no effect on a served model; set it where the model is served."
            )
    if settings:
        read_recipe(None, ["--task", "blindtest/lines", *settings])
    key = None
    if served.key_variable:
        key = os.environ.get(served.key_variable)
        if not key or not key.strip():
            raise UserError(
                # What was given is not repeated, for it may be the key itself.
                "--api_key_env: there is no such environment variable, or it is empty; the option takes the name of the "
                "variable that holds the server's key."
            )
    endpoint = Endpoint(
        model,
        model=served.name,
        key=key,
        max_tokens=max_new_tokens,
        temperature=served.temperature,
        seed=served.seed,
        patience=served.patience,
    )
    return Opened(endpoint, {"url": endpoint.url})


def check_settings(settings: Sequence[str]) -> None:
    """Refuses settings that are no keys of the section model.

    Raises:
        UserError: One is not.
    """
    for word in settings:
        if word.startswith("--") and not word.startswith("--model."):
            raise UserError(
                f"There is no option {word.split('=', 1)[0]}; settings of the model are written --model.key value."
            )


def fingerprint(folder: Path) -> str:
    """A short digest that tells a folder's weights from others, made of names, sizes and times, not of all bytes."""
    told = hashlib.sha256()
    for path in sorted(p for p in folder.iterdir() if p.suffix in (".safetensors", ".json", ".jinja")):
        stat = path.stat()
        told.update(f"{path.name} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    return told.hexdigest()[:16]
