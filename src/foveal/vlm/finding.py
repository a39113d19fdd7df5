"""Where a model is: with the package, in a folder, or on the Hub. Nothing here imports torch, so that a wrong name is
refused at once."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from huggingface_hub import try_to_load_from_cache
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, HFValidationError

from foveal import hub
from foveal.config.sections import Model, Recipe
from foveal.errors import UserError

#: Files of a model's folder that hold an object of settings, and the parts of config.json that are objects.
_SETTINGS: Final = (
    "config.json", "processor_config.json", "preprocessor_config.json", "tokenizer_config.json", "generation_config.json",
)  # fmt: skip
_PARTS: Final = frozenset({"text_config"})
BUILTIN: Final = "builtin"
_ASSETS: Final = Path(str(files("foveal") / "assets"))
#: Models that come with the package, the general one first.
BUILTINS: Final = tuple(sorted(p.name for p in _ASSETS.iterdir() if (p / "config.json").is_file()))


def builtin_folder(name: str = BUILTIN) -> Path:
    """The folder of a model that comes with the package, one of ``BUILTINS``, in Hub layout."""
    return _ASSETS / name


def is_url(model: str) -> bool:
    """Whether a model is named by the address of its server."""
    return model.lower().startswith(("http://", "https://"))


def resolve(recipe: Model) -> str:
    """The folder or Hub id for transformers' Auto classes.

    Raises:
        UserError: A folder that does not exist or holds no model, or the address of a server.
    """
    if is_url(recipe.id):
        raise UserError(
            "model.id: is the address of a server, whose model cannot be trained or examined from here; give builtin, a "
            "Hub id or a folder in Hub layout."
        )
    if recipe.id in BUILTINS:
        return str(builtin_folder(recipe.id))
    path = Path(recipe.id).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            what = "a run; use its checkpoints/best folder" if (path / "recipe.yaml").is_file() else "no config.json"
            raise UserError(f"model.id: {recipe.id} is not a model in Hub layout (it has {what}).")
        _check_files(path)
        return str(path.absolute())  # it stands in the files of adapters, which are used elsewhere
    if recipe.id.startswith((".", "/", "~")) or recipe.id.count("/") > 1 or path.exists():
        raise UserError(f"model.id: there is no model folder {recipe.id!r}; check the path.")
    return recipe.id


def _check_files(folder: Path) -> None:
    """Refuses a model's folder whose files of settings are damaged: transformers would fail at them in many ways.

    Raises:
        UserError: One holds no object, or a part of config.json is none.
    """
    for name in _SETTINGS:
        file = folder / name
        if not file.is_file():
            continue
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            continue  # transformers says what is wrong
        parts = {"": content} if not isinstance(content, dict) else {k: content[k] for k in _PARTS & content.keys()}
        for key, part in parts.items():
            if not isinstance(part, dict):
                what = f"its {key} is" if key else "holds"
                raise UserError(
                    f"{file}: {what} {'null' if part is None else type(part).__name__} where an object with keys is "
                    "needed; get the file again."
                )


def located(recipe: Recipe) -> Recipe:
    """The recipe with whole paths of models in folders, so that its run can be used from any folder."""
    changed: dict[str, Any] = {
        field.name: str(path.absolute())
        for field in fields(recipe.model)
        if isinstance(value := getattr(recipe.model, field.name), str) and value not in BUILTINS
        for path in [Path(value).expanduser()]
        if (path / "config.json").is_file()
    }
    return replace(recipe, model=replace(recipe.model, **changed)) if changed else recipe


def check_model_id(recipe: Model) -> str:
    """Checks that a model exists; the Hub is only asked where its cache has no copy, with a time limit.

    Returns:
        See ``resolve``.

    Raises:
        UserError: See ``resolve``; or it is not in the cache, and the Hub lacks it, does not give it or cannot be reached.
    """
    source = resolve(recipe)
    if Path(source).is_dir():
        return source
    try:
        if isinstance(try_to_load_from_cache(source, "config.json", revision=recipe.revision), str):
            return source
        trouble = hub.reach(source, recipe.revision, "model")
    except HFValidationError as error:
        trouble = error
    if trouble is not None:
        raise not_on_hub(recipe, trouble) from trouble
    return source


def not_on_hub(recipe: Model, error: Exception) -> UserError:
    """The error for a model that the Hub did not give."""
    if isinstance(error, HfHubHTTPError):
        refused = isinstance(error, GatedRepoError) or hub.status(error) == 403
    else:  # transformers puts it in words
        refused = any(word in str(error) for word in ("gated", "401", "403"))
    if refused:
        return UserError(
            f"model.id: {recipe.id} needs permission; accept its terms on the Hub and run `hf auth login`."
        )
    return UserError(
        f"model.id: {recipe.id!r} is no local folder, and the Hub does not have it or cannot be reached; "
        "check the spelling and the connection, or use builtin."
    )
