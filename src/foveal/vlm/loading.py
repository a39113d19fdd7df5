"""Loads any image-text-to-text model that transformers loads, from a Hub id, a folder, or the package itself."""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import HFValidationError, StrictDataclassError
from peft import PeftModel
from safetensors import SafetensorError
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForImageTextToText,
    BitsAndBytesConfig,
    PretrainedConfig,
    PreTrainedModel,
    ProcessorMixin,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

from foveal.config.sections import Model
from foveal.errors import UserError
from foveal.vlm import adapters
from foveal.vlm.families import Family, family_of
from foveal.vlm.finding import check_model_id, not_on_hub, resolve
from foveal.vlm.patches import keep_weights_as_loaded
from foveal.vlm.processors import load_processor
from foveal.vlm.resolution import set_resolution
from foveal.vlm.tiles import show_one_view


@dataclass(frozen=True)
class Vlm:
    """A model with its processor.

    Attributes:
        id: As the recipe names it.
        source: The folder or Hub id that it was loaded from.
        model: The model, on its device; wrapped by `peft` where it has adapters.
        processor: The family's own processor.
    """

    id: str
    source: str
    model: nn.Module
    processor: ProcessorMixin

    @property
    def base(self) -> PreTrainedModel:
        """The model without adapters' wrapping."""
        inner: Any = self.model
        base: PreTrainedModel = inner.get_base_model() if isinstance(inner, PeftModel) else inner
        return base

    @property
    def family(self) -> str:
        """The configuration's model type, e.g. ``idefics3``."""
        return str(self.base.config.model_type)

    @property
    def device(self) -> torch.device:
        """Where the inputs go."""
        return next(self.model.parameters()).device

    @property
    def context(self) -> int | None:
        """Longest row in tokens, or None where the configuration does not say."""
        text = self.base.config.get_text_config()
        return getattr(text, "max_position_embeddings", None)


def pick_device(name: str) -> torch.device:
    """The device of that name; ``auto`` takes CUDA, then MPS, then the CPU.

    Raises:
        UserError: This machine has no such device.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda", "mps"):
        raise UserError(f"model.device: {name!r} is no device; use auto, cpu, cuda, cuda:N or mps.")
    missing = (device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count()) or (
        device.type == "mps" and not torch.backends.mps.is_available()
    )
    if missing:
        raise UserError(f"model.device: this machine has no {name!r}; use auto or cpu.")
    return device


@cache
def cpu_has_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 in hardware (without, it is slower than float32)."""
    if torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported():
        return True
    info = Path("/proc/cpuinfo")
    return info.is_file() and re.search(r"\bbf16\b", info.read_text(errors="replace")) is not None


def _dtype(recipe: Model, device: torch.device) -> torch.dtype:
    if recipe.dtype == "float16" and device.type == "cpu":
        raise UserError("model.dtype: float16 is for GPUs; on a CPU give float32 or bfloat16, or leave it at auto.")
    if recipe.dtype != "auto":
        chosen: torch.dtype = getattr(torch, recipe.dtype)
        return chosen
    if recipe.adapter == "none" and recipe.quantization == "none":
        return torch.float32
    return torch.bfloat16 if device.type == "cuda" else torch.float32


def _quantisation(recipe: Model, family: Family, device: torch.device) -> BitsAndBytesConfig | None:
    if recipe.quantization == "none":
        return None
    if importlib.util.find_spec("bitsandbytes") is None:
        raise UserError(
            f"model.quantization: {recipe.quantization} needs bitsandbytes; install it with: pip install 'foveal[quant]'"
        )
    whole = list(family.unquantised)
    if recipe.quantization == "int8":
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=whole)
    compute = torch.bfloat16 if device.type == "cuda" else torch.float32
    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=compute,
        llm_int8_skip_modules=whole,
    )  # fmt: skip


def _attention(recipe: Model, config: PretrainedConfig, device: torch.device) -> str | None:
    """The kernel asked for; else eager on a CPU where the picture is a short sequence (measured 3 to 9 times faster
    than sdpa up to 200 tokens), else the model's own choice."""
    if recipe.attention is not None or device.type != "cpu":
        return recipe.attention
    vision = getattr(config, "vision_config", None)
    image = recipe.resolution or getattr(vision, "image_size", None)
    patch = getattr(vision, "patch_size", None)
    if isinstance(image, int) and isinstance(patch, int) and (image // patch) ** 2 <= 256:
        return "eager"
    return None


def load_config(recipe: Model) -> PretrainedConfig:
    """The model's configuration.

    Raises:
        UserError: There is no such model, the Hub cannot be reached, or the model cannot look at pictures.
    """
    source = check_model_id(recipe)
    try:
        raw, _ = PretrainedConfig.get_config_dict(source, revision=recipe.revision)
        older = _older_code(raw)
        if older:
            raise UserError(
                f"model.id: {recipe.id} brings Python code of its own for {older} of an older transformers, which is not "
                "supported; choose e.g. HuggingFaceTB/SmolVLM-Instruct or Qwen/Qwen2-VL-2B-Instruct."
            )
        config = AutoConfig.from_pretrained(
            source, revision=recipe.revision, trust_remote_code=recipe.trust_remote_code
        )
    except UserError:
        raise
    except Exception as error:  # the folder's own settings decide which way it fails
        raise _explained(recipe, error, source) from error
    known = config.model_type in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
    if not known and not recipe.trust_remote_code:
        raise UserError(
            f"model.id: {recipe.id} is of type {config.model_type!r}, which takes no pictures and text together; "
            "choose a vision-language model, e.g. builtin or HuggingFaceTB/SmolVLM-256M-Instruct."
        )
    if getattr(config, "vision_config", True) is None:
        raise UserError(f"model.id: {recipe.id} has no vision tower; choose a vision-language model.")
    return config


def _older_code(raw: dict[str, Any]) -> str | None:
    """The outdated Auto class that a model's own code is for, by the ``auto_map`` of its config.json; None where the code
    is up to date or not needed."""
    offered = [name for name in raw.get("auto_map") or {} if name.startswith("AutoModel")]
    current = AutoModelForImageTextToText.__name__
    if not offered or current in offered or raw.get("model_type") in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES:
        return None
    return "AutoModelForCausalLM" if "AutoModelForCausalLM" in offered else offered[0]


#: What transformers raises where the Hub does not give a model.
_OF_HUB = (OSError, ValueError, RuntimeError, KeyError, HFValidationError, SafetensorError, StrictDataclassError)


def _explained(recipe: Model, error: Exception, start: str) -> UserError:
    text = str(error)
    if lacks_memory(error):
        return out_of_memory(error)
    if "trust_remote_code" in text:
        return UserError(
            f"model.id: {recipe.id} brings its own Python code; read it, then set model.trust_remote_code to true."
        )
    if "no file named model.safetensors" in text or "cannot be loaded with `safetensors`" in text:
        return UserError(
            f"{start}: has no weights as safetensors; other formats (.bin) can hold code and are not opened. Complete the "
            "folder, or convert the weights with https://huggingface.co/spaces/safetensors/convert."
        )
    if "ignore_mismatched_sizes" in text:
        return UserError(
            f"{start}: its weights have other sizes than its config.json says; they belong to another model."
        )
    if Path(start).is_dir() and "Unrecognized model" in text:
        return UserError(f"{start}: its config.json is missing or names no model type; the folder is incomplete.")
    if "does not recognize this architecture" in text or "Unrecognized model" in text:
        return UserError(
            f"model.id: {recipe.id} is of a family that this transformers does not know; update transformers."
        )
    if Path(start).is_dir():
        reason = (text.strip() or type(error).__name__).splitlines()[0].rstrip(".")
        return UserError(f"{start}: the model cannot be loaded: {reason}.")
    if not isinstance(error, _OF_HUB):
        return UserError(f"model.id: {recipe.id} cannot be loaded ({type(error).__name__}: {text.strip()}).")
    return not_on_hub(recipe, error)


def lacks_memory(error: BaseException) -> bool:
    """Whether an error means that memory of the GPU or the machine did not suffice."""
    if isinstance(error, RuntimeError) and not isinstance(error, torch.OutOfMemoryError):
        text = str(error)
        return any(s in text for s in ("can't allocate memory", "not enough memory", "out of memory"))
    return isinstance(error, torch.OutOfMemoryError | MemoryError)


@contextmanager
def memory_errors() -> Iterator[None]:
    """Turns errors of lacking memory into a ``UserError``."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if lacks_memory(error):
            raise out_of_memory(error) from error
        raise


@memory_errors()
def load(recipe: Model, *, weights: Path | None = None, training: bool = False) -> Vlm:
    """The model that a recipe names, ready to train or to answer.

    Args:
        recipe: The model section.
        weights: A checkpoint folder of a run: an adapter, or whole weights that replace the recipe's own.
        training: Whether the model is trained; then adapters are added and components frozen as the recipe says.

    Raises:
        UserError: The model does not exist, is no VLM, does not fit, or the recipe asks for what it cannot do.
    """
    source = resolve(recipe)
    adapter = weights is not None and (weights / "adapter_config.json").is_file()
    start = source if weights is None or adapter else str(weights)
    device = pick_device(recipe.device)
    loaded, processor = _open(recipe, source, start, device)
    if not recipe.tiles:
        show_one_view(loaded, processor)
    if recipe.resolution is not None:
        set_resolution(loaded, processor, recipe.resolution)
    tokens, rows = len(processor.tokenizer), loaded.get_input_embeddings().num_embeddings
    if start != source and tokens > rows:
        raise UserError(
            f"model.id: {recipe.id} is not the model of {start}, which has {rows:,} tokens and not {tokens:,}; correct it."
        )
    if recipe.quantization == "none":
        loaded = loaded.to(device)
    model: nn.Module = loaded
    if adapter and weights is not None:
        model = _with_adapter(loaded, weights, recipe, training)
    elif training:
        model = adapters.make_trainable(loaded, recipe)
    if training and recipe.gradient_checkpointing:
        loaded.gradient_checkpointing_enable({"use_reentrant": False})
        loaded.enable_input_require_grads()
    if not training:
        model = model.eval().requires_grad_(False)
    return Vlm(recipe.id, source, model, processor)


def _open(recipe: Model, source: str, start: str, device: torch.device) -> tuple[PreTrainedModel, ProcessorMixin]:
    """The model with the weights of ``start``, and the processor of ``source``.

    Raises:
        UserError: One cannot be loaded, or weights are missing.
    """
    config = load_config(recipe)
    quantisation = _quantisation(recipe, family_of(config.model_type), device)
    try:
        model, info = AutoModelForImageTextToText.from_pretrained(
            start, revision=recipe.revision if start == source else None, trust_remote_code=recipe.trust_remote_code,
            dtype=_dtype(recipe, device), attn_implementation=_attention(recipe, config, device), use_safetensors=True,
            quantization_config=quantisation, device_map={"": device} if quantisation is not None else None,
            output_loading_info=True,
        )  # fmt: skip
        processor = load_processor(source, revision=recipe.revision, trust_remote_code=recipe.trust_remote_code)
    except ImportError as error:
        raise UserError(
            f"model.id: {recipe.id} needs a package that is missing: {str(error).strip().splitlines()[0]}"
        ) from error
    except UserError:
        raise
    except Exception as error:  # settings of another family fail at whatever they lack
        raise _explained(recipe, error, start) from error
    missing = info.get("missing_keys", ())
    if missing or info.get("mismatched_keys"):
        raise UserError(
            f"model.id: {start} lacks weights that its configuration needs ({len(missing)} missing, e.g. "
            f"{', '.join(sorted(map(str, missing))[:2]) or 'sizes differ'}); the folder is incomplete or of another model."
        )
    if quantisation is not None:
        keep_weights_as_loaded(model)
    return model, processor


def _with_adapter(model: PreTrainedModel, folder: Path, recipe: Model, training: bool) -> nn.Module:
    """The model with a checkpoint's adapter.

    Raises:
        UserError: It was trained with another model.
    """
    try:
        return adapters.load_adapter(model, folder, trainable=training)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        if lacks_memory(error):
            raise
        reason = str(error).strip().splitlines()[0].rstrip(".:")
        raise UserError(f"{folder}: does not fit the model {recipe.id} ({reason}); name its own.") from error


def out_of_memory(error: BaseException) -> UserError:
    """The error for a lack of memory, with remedies."""
    first = str(error).splitlines()[0] if str(error) else "no memory left"
    return UserError(
        f"Out of memory ({first.rstrip('.')}). Halve training.batch_size and double training.accumulate, lower "
        "evaluation.batch_size, set model.gradient_checkpointing to true, use model.adapter: lora with "
        "model.quantization: nf4, set model.tiles to false, or lower model.image_size."
    )
