"""The opened segmenter: a VLM with a `<SEG>` token, SAM's mask decoder, and their processor."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Self

import torch

from foveal.config.checking import check_ranges
from foveal.config.sections import Recipe
from foveal.errors import UserError
from foveal.examples import Example
from foveal.prompts import Prompt
from foveal.results import Prediction
from foveal.tasks.segmentation.mask_token import add_mask_token
from foveal.tasks.segmentation.model import (
    PIXELS,
    SegmenterConfig,
    SharedEncoderSegmenter,
    drop_vision,
    projector_of,
    recorded_inputs,
)
from foveal.tasks.segmentation.sam import FINE, NEW, SamParts, load_sam
from foveal.tasks.segmentation.square import Square, SquarePictures, geometry_error, probe_picture
from foveal.tasks.segmentation.start import begin
from foveal.tasks.segmentation.task import Segmentation, SegmenterData, SegmenterModel, segmenter_section
from foveal.tasks.specialist import Batch, Specialist
from foveal.vlm.components import register_components, register_prefix
from foveal.vlm.encoding import Encoder
from foveal.vlm.loading import Vlm, load
from foveal.vlm.processors import save_processor
from foveal.vlm.scoring import to_device
from foveal.vlm.tiles import show_one_view


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

    encoder: Encoder

    def __init__(
        self, task: Segmentation, vlm: Vlm, model: SharedEncoderSegmenter, encoder: Encoder, options: Recipe
    ) -> None:
        self.id, self.source, self.task, self.model = vlm.id, vlm.source, task, model
        self.vlm, self.encoder, self.options = vlm, encoder, options.evaluation
        # Squares are padded with the mean colour of the VLM's standardisation.
        red, green, blue = (round(255 * mean) for mean in _standardisation(vlm)[0])
        self.pictures = SquarePictures((red, green, blue), model.sam.side if model.sam.vision_encoder else None)

    @classmethod
    def open(cls, task: Segmentation, recipe: Recipe, *, weights: Path | None, training: bool) -> Self:
        """See ``Specialist.open``."""
        _check(recipe)
        register_prefix("vlm.")
        register_components(cls.components)
        section = segmenter_section(recipe.model)
        vlm = _load_vlm(section, training)
        token = add_mask_token(vlm.base, vlm.processor.tokenizer, recipe.data.token)
        width, patches = _patches(vlm) if section.vision == "vlm" else (0, 0)
        sam = load_sam(section.sam, encoder=section.vision != "vlm", grid=2 * patches)
        config = _configuration(recipe, vlm, sam, token, width)
        encoder = Encoder(vlm.processor, family=vlm.family, context=vlm.context, image_size=section.image_size)
        if training and recipe.data.phrases > 1:
            _check_turns(encoder, vlm)
        if section.vision == "sam":
            drop_vision(vlm.base)
        model = SharedEncoderSegmenter(config, vlm.model, sam).to(vlm.device)
        if weights is not None:
            model.load_checkpoint(weights / "model.safetensors")
        elif section.sam in NEW:
            begin(model, Path(vlm.source))
        if training:
            _choose_trainable(model, recipe.data.segmenter, small=section.sam in NEW)
            if "head" in section.freeze:
                sam.mask_decoder.requires_grad_(False)
        else:
            model = model.eval().requires_grad_(False)
        return cls(task, vlm, model, encoder, recipe)

    def inputs(self, examples: Sequence[Example]) -> tuple[Batch, torch.Tensor | None, list[Square]]:
        """Left-padded prompts and the input of SAM's encoder, both on the device, and each picture's square.

        Raises:
            UserError: A row does not fit into the model's context.
        """
        prompts, squares = self.pictures.padded([self.task.prompt(e) for e in examples])
        names = [e.id for e in examples]
        batch = self.encoder.encode(prompts, side="left", names=names)
        self.encoder.check_prompts(batch, names)
        pixels = self.pictures.sam_pixels(prompts)
        return to_device(batch, self.vlm), None if pixels is None else pixels.to(self.device), squares

    def ask(self, examples: Sequence[Example]) -> list[Prediction]:
        """Replies with their masks, at the pictures' sizes."""
        batch, pixels, squares = self.inputs(examples)
        ids, out = self.model.generate(
            batch, pixels, max_new_tokens=self.options.max_new_tokens, end_ids=sorted(self.encoder.end_ids),
            pad_id=self.encoder.tokenizer.pad_token_id or self.encoder.end_id,
        )  # fmt: skip
        assert out.masks is not None and out.ious is not None and out.rows is not None
        replies: list[str] = self.encoder.tokenizer.batch_decode(ids, skip_special_tokens=True)
        predictions = []
        for i, (example, square, reply) in enumerate(zip(examples, squares, replies, strict=True)):
            masks = (square.logits_to_picture(out.masks[out.rows == i]) > 0).cpu().numpy()
            ious = out.ious[out.rows == i].float().clamp(0, 1).tolist()
            predictions.append(self.task.finished(example, reply.strip(), list(masks), ious))
        return predictions

    def save_parts(self, folder: Path) -> None:
        """Saves the processor, whose tokenizer has the mask token."""
        save_processor(self.vlm.processor, folder)


def _check(recipe: Recipe) -> None:
    if recipe.objective not in ("answer", "mask"):
        raise UserError("objective: segmentation learns text and masks together; leave objective at answer.")
    if recipe.training.consistency:
        raise UserError("training.consistency: segmentation has no mirrored pairs; set it to 0.")
    if recipe.evaluation.method not in ("auto", "generate"):
        raise UserError("evaluation.method: masks come with a written reply; leave it at auto.")
    check_ranges(recipe.data.segmenter, "data.segmenter.", mask_size=(16, 2048))


def _check_turns(encoder: Encoder, vlm: Vlm) -> None:
    """Refuses several phrases in a row where the template of the model does not go on behind an answer."""
    try:
        encoder.learned_ids(Prompt((), "red star", answer="none", turns=(("blue ring", "none"),)))
    except UserError as error:
        raise UserError(f"data.phrases: set it to 1 for {vlm.id} ({vlm.family}). {error}") from error


def _load_vlm(section: SegmenterModel, training: bool) -> Vlm:
    """The VLM with one view of each picture. A checkpoint's adapters need adapters to be loaded into."""
    whole = section.adapter == "none" and section.quantization == "none"
    trained = section.adapter != "none" or (whole and not {"vision", "projector", "language"} <= set(section.freeze))
    # The component "head" is SAM's decoder; the VLM has none.
    section = replace(
        section, freeze=[c for c in section.freeze if c != "head"],
        learning_rates={c: v for c, v in section.learning_rates.items() if c != "head"},
    )  # fmt: skip
    vlm = load(section, training=trained and (training or section.adapter != "none"))
    if section.vision != "separate":
        # A family that always cuts pictures into tiles is refused in ``_configuration``.
        with suppress(UserError):
            show_one_view(vlm.base, vlm.processor)
    return vlm


def _configuration(recipe: Recipe, vlm: Vlm, sam: SamParts, token: int, width: int) -> SegmenterConfig:
    """The network's configuration; ``width`` is that of the patches.

    Raises:
        UserError: The VLM cannot be used with the recipe's ``model.vision``.
    """
    section, losses = segmenter_section(recipe.model), recipe.data.loss_weights()
    whole = section.adapter == "none" and section.quantization == "none"
    return SegmenterConfig(
        vlm=vlm.base.config.to_dict(), sam=sam.config.to_dict(), vision=section.vision, token=token,
        image_token=_image_token(vlm), picture_width=width,
        language_width=vlm.base.get_input_embeddings().weight.shape[1],
        own_rows=not whole or "language" in section.freeze,
        listed=_takes_list(vlm) if section.vision == "sam" else False,
        whole=whole and not section.freeze and section.sam in NEW, new_sam=section.sam in NEW,
        fine=section.sam == FINE and section.vision == "vlm",
        losses=[losses.text, losses.bce, losses.dice, losses.iou],
    )  # fmt: skip


def _choose_trainable(model: SharedEncoderSegmenter, options: SegmenterData, *, small: bool) -> None:
    """What is trained beside the VLM: always the projections, SAM's parts as chosen, a small SAM as a whole."""
    sam = model.sam
    sam.requires_grad_(False)
    if options.decoder or small:
        sam.mask_decoder.requires_grad_(True)
        # A prompt has one mask, so the networks of the others get no gradient, which DDP would wait for.
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


def _standardisation(vlm: Vlm) -> tuple[Sequence[float], Sequence[float]]:
    """Mean and standard deviation of colours in the VLM's preprocessing."""
    images: Any = vlm.processor.image_processor
    return images.image_mean, images.image_std


def _probe_batch(vlm: Vlm) -> Batch:
    """A batch of one prompt with ``probe_picture``."""
    encoder = Encoder(vlm.processor, family=vlm.family)
    return to_device(encoder.encode([Prompt((probe_picture(),), "?")], side="left"), vlm)


@torch.no_grad()
def _takes_list(vlm: Vlm) -> bool:
    """Whether the VLM takes picture tokens as a list with one tensor for each picture; see ``SegmenterConfig.listed``.

    Raises:
        UserError: The family takes no picture tokens from outside, or a picture's tokens are no square.
    """
    refusal = f"model.vision: {vlm.id} ({vlm.family}) cannot look through SAM's encoder, for {{}}; use vlm or separate."
    inner: Any = vlm.base.model
    if "mm_encoder_outputs" not in inspect.signature(inner.forward).parameters:
        raise UserError(refusal.format("it takes no picture tokens from outside"))
    batch = _probe_batch(vlm)
    tokens = int((batch["input_ids"] == _image_token(vlm)).sum())
    if math.isqrt(tokens) ** 2 != tokens:
        raise UserError(refusal.format(f"its pictures are {tokens} tokens, no square"))
    features = inner.get_image_features(**{k: v for k, v in batch.items() if k in PIXELS})
    if getattr(features, "deepstack_features", None) is not None:
        raise UserError(refusal.format("its language model also takes features from inside its own tower"))
    return isinstance(features.pooler_output, list | tuple)


@torch.no_grad()
def _patches(vlm: Vlm) -> tuple[int, int]:
    """Channels of the patches that go into the projector, and how many lie along each side of a picture.

    Raises:
        UserError: The family cuts, tiles or packs pictures, so that its patches are no square of the whole picture.
    """
    refusal = f"model.vision: {vlm.id} ({vlm.family}) cannot lend its vision to the mask decoder, for {{}}; use sam or separate."
    batch = _probe_batch(vlm)
    if "pixel_values" not in batch or batch["pixel_values"].ndim < 4:
        raise UserError(refusal.format("it packs patches in an order of its own"))
    if error := geometry_error(batch["pixel_values"], *_standardisation(vlm)):
        raise UserError(refusal.format(error))
    with recorded_inputs(projector_of(vlm.base)) as recorded:
        vlm.base(**batch)
    if not recorded:
        raise UserError(refusal.format("its projector is not asked in a forward pass"))
    patches = recorded[0]
    if patches.ndim != 3 or int(patches.shape[1] ** 0.5) ** 2 != patches.shape[1]:
        raise UserError(refusal.format("its patches are no square"))
    return int(patches.shape[2]), math.isqrt(patches.shape[1])
