"""The segmenter as a recipe's model: any VLM with a `<SEG>` token and SAM's mask decoder."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from PIL import Image

from foveal.config.sections import Recipe
from foveal.errors import UserError
from foveal.examples import Example
from foveal.prompts import Prompt
from foveal.results import Prediction
from foveal.tasks.segmentation.frame import Frame, check_geometry, probe
from foveal.tasks.segmentation.objects import Mask
from foveal.tasks.segmentation.sam import SMALL, SamParts, load_sam
from foveal.tasks.segmentation.seg_token import add_token
from foveal.tasks.segmentation.segmenter import (
    PIXELS,
    SegmenterConfig,
    SharedEncoderSegmenter,
    drop_tower,
    loss_weights,
)
from foveal.tasks.segmentation.task import Segmentation, segmenter_section
from foveal.tasks.specialist import Batch, Specialist
from foveal.tasks.task import Task
from foveal.training.objectives import NamedLosses, Objective
from foveal.vlm.components import component_modules, register_components, register_prefix
from foveal.vlm.encoding import Encoder
from foveal.vlm.loading import Vlm, load
from foveal.vlm.processors import save_processor
from foveal.vlm.scoring import to_device
from foveal.vlm.tiles import show_one_view

#: SAM's standardisation of colours between 0 and 1 (that of ImageNet).
SAM_MEAN, SAM_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_Color = tuple[int, int, int]


class Segmenter(Specialist[Segmentation]):
    """A SharedEncoderSegmenter with its processor."""

    family: ClassVar[str] = "segmenter"
    objective: ClassVar[str] = "mask"
    components: ClassVar[Mapping[str, str]] = {
        r"sam\.vision_encoder\b": "vision",
        r"(to_prompt|to_grid|to_tokens|rows)\b": "projector",
        r"sam\.(mask_decoder|positions|no_mask)\b": "head",
    }

    model: SharedEncoderSegmenter

    def __init__(
        self, task: Segmentation, vlm: Vlm, model: SharedEncoderSegmenter, encoder: Encoder, options: Recipe
    ) -> None:
        self.id, self.source, self.task, self.model = vlm.id, vlm.source, task, model
        self.vlm, self.encoder, self.options = vlm, encoder, options.evaluation
        self.sees = Sees.of(vlm, model)

    @classmethod
    def open(cls, task: Segmentation, recipe: Recipe, *, weights: Path | None, training: bool) -> Self:
        """See ``Specialist.open``."""
        _check(recipe)
        register_prefix("vlm.")
        register_components(cls.components)
        section, options = segmenter_section(recipe.model), recipe.data.segmenter
        whole = section.adapter == "none" and section.quantization == "none"
        learns = section.adapter != "none" or (whole and not {"vision", "projector", "language"} <= set(section.freeze))
        # Its adapters are in the checkpoint, so there must be some to load them into.
        # The head is SAM's decoder, of which the VLM knows nothing.
        own = replace(
            section, freeze=[c for c in section.freeze if c != "head"],
            learning_rates={c: v for c, v in section.learning_rates.items() if c != "head"},
        )  # fmt: skip
        vlm = load(own, training=learns and (training or section.adapter != "none"))
        if section.vision != "separate":
            # The mask decoder looks at one square; a family that keeps its tiles is refused below, in fitting words.
            with suppress(UserError):
                show_one_view(vlm.base, vlm.processor)
        token = add_token(vlm.base, vlm.processor.tokenizer, recipe.data.token)
        sam = load_sam(section.sam, encoder=section.vision != "vlm")
        own_rows = not whole or "language" in section.freeze
        config = SegmenterConfig(
            vlm=vlm.base.config.to_dict(), sam=sam.config.to_dict(), vision=section.vision, token=token,
            image_token=_image_token(vlm), picture_width=_patch_width(vlm) if section.vision == "vlm" else 0,
            language_width=vlm.base.get_input_embeddings().weight.shape[1], own_rows=own_rows,
            listed=_takes_list(vlm) if section.vision == "sam" else False,
            whole=whole and not section.freeze and section.sam == SMALL, new_sam=section.sam == SMALL,
            losses=loss_weights(recipe.data.loss_weights()),
        )  # fmt: skip
        encoder = Encoder(vlm.processor, family=vlm.family, context=vlm.context, image_size=section.image_size)
        if section.vision == "sam":
            drop_tower(vlm.base)
        model = SharedEncoderSegmenter(config, vlm.model, sam).to(vlm.device)
        if weights is not None:
            model.load_kept(weights / "model.safetensors")
        if training:
            _choose_learning(model, sam, options, small=section.sam == SMALL)
            if section.freeze and "head" in section.freeze:
                sam.mask_decoder.requires_grad_(False)
        else:
            model = model.eval().requires_grad_(False)
        return cls(task, vlm, model, encoder, recipe)

    def inputs(self, examples: Sequence[Example]) -> tuple[Batch, torch.Tensor | None, list[Frame]]:
        """Left-padded prompts on the device, what SAM's encoder sees, and each picture's frame.

        Raises:
            UserError: A row does not fit into the model's context.
        """
        prompts, frames = self.sees.squares([self.task.prompt(e) for e in examples])
        batch = self.encoder.encode(prompts, side="left")
        self.encoder.check_prompts(batch, [e.id for e in examples])
        pixels = self.sees.sam_pixels(prompts)
        return to_device(batch, self.vlm), None if pixels is None else pixels.to(self.device), frames

    def ask(self, examples: Sequence[Example]) -> list[Prediction]:
        """Replies with their masks, at the pictures' own sizes."""
        batch, pixels, frames = self.inputs(examples)
        ids, out = self.model.write(
            batch, pixels, max_new_tokens=self.options.max_new_tokens, end_ids=sorted(self.encoder.end_ids),
            pad_id=self.encoder.tokenizer.pad_token_id or self.encoder.end_id,
        )  # fmt: skip
        assert out.masks is not None and out.ious is not None and out.rows is not None
        texts: list[str] = self.encoder.tokenizer.batch_decode(ids, skip_special_tokens=True)
        found = []
        for i, (example, frame, text) in enumerate(zip(examples, frames, texts, strict=True)):
            own = out.rows == i
            masks = (frame.grow(out.masks[own]) > 0).cpu().numpy()
            found.append(
                self.task.finished(example, text.strip(), list(masks), out.ious[own].float().clamp(0, 1).tolist())
            )
        return found

    def save_parts(self, folder: Path) -> None:
        """The processor, whose tokenizer knows the token."""
        save_processor(self.vlm.processor, folder)


class Sees:
    """How pictures come to the encoders. Picklable, for data workers use it.

    Args:
        padding: Colour of what a square has left over, the mean colour of the VLM's standardisation.
        sam_side: Side in pixels of what SAM's encoder sees; None where there is none.
    """

    def __init__(self, padding: _Color, sam_side: int | None) -> None:
        self.padding, self.sam_side = padding, sam_side

    @classmethod
    def of(cls, vlm: Vlm, model: SharedEncoderSegmenter) -> Self:
        """What suits a model."""
        mean, _ = _standard(vlm)
        red, green, blue = (round(255 * m) for m in mean)
        return cls((red, green, blue), model.sam.side if model.sam.vision_encoder is not None else None)

    def squares(self, prompts: Sequence[Prompt]) -> tuple[list[Prompt], list[Frame]]:
        """Prompts with their pictures in squares, and the frames that lead back."""
        pictures = [p.opened()[0] for p in prompts]
        frames = [Frame(picture.size) for picture in pictures]
        return [
            replace(p, images=(f.square(picture.convert("RGB"), self.padding),))
            for p, f, picture in zip(prompts, frames, pictures, strict=True)
        ], frames

    def sam_pixels(self, prompts: Sequence[Prompt]) -> torch.Tensor | None:
        """Standardised squares [B, 3, P, P] for SAM's encoder."""
        if self.sam_side is None:
            return None
        size = (self.sam_side, self.sam_side)
        arrays = [np.asarray(p.opened()[0].resize(size, Image.Resampling.BILINEAR), dtype=np.float32) for p in prompts]
        scaled = (np.stack(arrays) / 255 - np.array(SAM_MEAN, np.float32)) / np.array(SAM_STD, np.float32)
        return torch.from_numpy(np.ascontiguousarray(scaled.transpose(0, 3, 1, 2)))


class MaskObjective(Objective):
    """Text, BCE, Dice and IoU-head losses; see ``SharedEncoderSegmenter.forward``.

    Args:
        encoder: Makes the VLM's tensors.
        sees: Makes squares.
        targets: The masks that an example's answer asks for, one for each ``<SEG>`` in it.
        side: Side in pixels of the square on which masks are compared.
    """

    def __init__(self, encoder: Encoder, sees: Sees, targets: Callable[[Example], list[Mask]], side: int) -> None:
        self.encoder, self.sees, self.targets, self.side = encoder, sees, targets, side

    @classmethod
    def make(cls, recipe: Recipe, task: Task, model: Vlm | Specialist[Any]) -> Self:
        """See ``Objective.make``."""
        if not isinstance(model, Segmenter):
            raise UserError(
                f"objective: mask is for models that draw masks, which {recipe.model.id} does not; use answer."
            )
        return cls(model.encoder, model.sees, model.task.targets, model.task.data.segmenter.mask_size)

    def collate(self, rows: Sequence[Any]) -> Batch:
        """The VLM's tensors with labels; targets [B, K, S, S] and what counts of them [B, S, S] in 255ths; amounts [B]."""
        prompts, frames = self.sees.squares([r.prompt for r in rows])
        batch = self.encoder.training_batch(prompts, [r.example.id for r in rows])
        masks = [self.targets(r.example) for r in rows]
        most, side = max(1, *(len(m) for m in masks)), self.side
        targets = np.zeros((len(rows), most, side, side), dtype=np.uint8)
        counted = np.zeros((len(rows), side, side), dtype=np.uint8)
        for i, (frame, own) in enumerate(zip(frames, masks, strict=True)):
            for k, mask in enumerate(own):
                share, counts = frame.shrink(mask, side)
                targets[i, k], counted[i] = np.round(255 * share), np.round(255 * counts)
        batch |= {
            "targets": torch.from_numpy(targets), "counted": torch.from_numpy(counted),
            "amounts": torch.tensor([len(m) for m in masks]),
        }  # fmt: skip
        pixels = self.sees.sam_pixels(prompts)
        return batch if pixels is None else {**batch, "sam_pixels": pixels}

    def count(self, batch: Batch) -> torch.Tensor:
        """Rows."""
        return torch.tensor(len(batch["amounts"]))

    def loss(self, model: Any, batch: Batch, normaliser: torch.Tensor | float | None) -> NamedLosses:
        """See ``SharedEncoderSegmenter.forward``."""
        out = model(**batch, normaliser=normaliser)
        return NamedLosses(out.loss, out.losses)

    def preview(self, rows: Sequence[Any]) -> str:
        """The first row's tokens, learned ones in [[ ]], and its masks."""
        prompts, _ = self.sees.squares([rows[0].prompt])
        batch = self.encoder.training_batch(prompts, [rows[0].example.id])
        areas = ", ".join(f"{(m == 1).mean():.1%} of the picture" for m in self.targets(rows[0].example)) or "none"
        return f"{self.encoder.decode_labels(batch)}\nmasks: {areas}"


def _check(recipe: Recipe) -> None:
    if recipe.objective not in ("answer", "mask"):
        raise UserError("objective: segmentation learns text and masks together; leave objective at answer.")
    if recipe.training.consistency:
        raise UserError("training.consistency: segmentation has no mirrored pairs; set it to 0.")
    if recipe.evaluation.method not in ("auto", "generate"):
        raise UserError("evaluation.method: masks come with a written reply; leave it at auto.")
    if not 16 <= recipe.data.segmenter.mask_size <= 2048:
        raise UserError(
            f"data.segmenter.mask_size: {recipe.data.segmenter.mask_size} is out of range; give 16 to 2048."
        )


def _choose_learning(model: SharedEncoderSegmenter, sam: SamParts, options: Any, *, small: bool) -> None:
    """What learns beside the VLM: the projections always, SAM's parts as chosen (a new one whole)."""
    sam.requires_grad_(False)
    if options.decoder or small:
        sam.mask_decoder.requires_grad_(True)
        # With one mask for a prompt the other masks' networks get no gradient, which DDP would wait for.
        for network in sam.mask_decoder.output_hypernetworks_mlps[1:]:
            network.requires_grad_(False)
    if sam.vision_encoder is not None and (options.encoder or small):
        sam.vision_encoder.requires_grad_(True)
    if small:
        sam.no_mask.requires_grad_(True)
    for part in ("to_prompt", "to_grid", "to_tokens", "rows"):
        module = getattr(model, part, None)
        if module is not None:
            module.requires_grad_(True)


def _image_token(vlm: Vlm) -> int:
    token: int | None = getattr(vlm.base.config, "image_token_id", None)
    if token is None:
        raise UserError(f"model.id: {vlm.id} ({vlm.family}) has no token for pictures; choose a family that has one.")
    return token


def _standard(vlm: Vlm) -> tuple[Sequence[float], Sequence[float]]:
    images: Any = vlm.processor.image_processor
    return images.image_mean, images.image_std


class _Seen(Exception):
    """Ends a forward pass once the projector's input is known."""

    def __init__(self, patches: torch.Tensor) -> None:
        super().__init__()
        self.patches = patches


def _probed(vlm: Vlm) -> Batch:
    """The tensors of a prompt with ``probe``."""
    encoder = Encoder(vlm.processor, family=vlm.family)
    return to_device(encoder.encode([Prompt((probe(),), "?")], side="left"), vlm)


@torch.no_grad()
def _takes_list(vlm: Vlm) -> bool:
    """Whether the VLM takes a list of each picture's tokens; checked to be a square of them.

    Raises:
        UserError: The family cannot be given a picture's tokens from elsewhere.
    """
    other = f"model.vision: {vlm.id} ({vlm.family}) cannot look through SAM's encoder, for {{}}; use vlm or separate."
    inner: Any = vlm.base.model
    if "mm_encoder_outputs" not in inspect.signature(inner.forward).parameters:
        raise UserError(other.format("it takes no picture tokens from outside"))
    batch = _probed(vlm)
    tokens = int((batch["input_ids"] == _image_token(vlm)).sum())
    if math.isqrt(tokens) ** 2 != tokens:
        raise UserError(other.format(f"its pictures are {tokens} tokens, no square"))
    seen = inner.get_image_features(**{k: v for k, v in batch.items() if k in PIXELS})
    if getattr(seen, "deepstack_features", None) is not None:
        raise UserError(other.format("its language model also takes features from inside its own tower"))
    return isinstance(seen.pooler_output, list | tuple)


@torch.no_grad()
def _patch_width(vlm: Vlm) -> int:
    """Channels of the patches that go into the projector, checked to be a square of the whole picture.

    Raises:
        UserError: The family cuts, tiles or packs pictures, so that its patches cannot be laid on SAM's grid.
    """
    other = f"model.vision: {vlm.id} ({vlm.family}) cannot lend its vision to the mask decoder, for {{}}; use sam or separate."
    batch = _probed(vlm)
    if "pixel_values" not in batch or batch["pixel_values"].ndim < 4:
        raise UserError(other.format("it packs patches in an order of its own"))
    wrong = check_geometry(batch["pixel_values"], *_standard(vlm))
    if wrong:
        raise UserError(other.format(wrong))

    def stop(_: Any, args: tuple[torch.Tensor, ...], kwargs: dict[str, Any]) -> None:
        raise _Seen(args[0] if args else next(iter(kwargs.values())))

    projector = vlm.base.get_submodule(component_modules(vlm.base, "projector")[0])
    handle = projector.register_forward_pre_hook(stop, with_kwargs=True)
    try:
        vlm.base(**batch)
    except _Seen as seen:
        patches = seen.patches
    else:
        raise UserError(other.format("its projector is not asked in a forward pass"))
    finally:
        handle.remove()
    if patches.ndim != 3 or int(patches.shape[1] ** 0.5) ** 2 != patches.shape[1]:
        raise UserError(other.format("its patches are no square"))
    return int(patches.shape[2])
