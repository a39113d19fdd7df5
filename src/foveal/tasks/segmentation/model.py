"""SharedEncoderSegmenter: a VLM that writes `<SEG>`, and SAM's mask decoder.

The VLM reads the picture and the sentence. The hidden state that predicts the token `<SEG>` is projected to SAM's prompt
space, where the mask decoder turns it into one mask (as in LISA, Lai et al. 2023, arXiv 2308.00692). ``vision`` says
which encoder the picture's features come from:

* ``vlm``: the VLM's encoder runs once; the patches that go into its projector are also projected to SAM's grid.
* ``sam``: SAM's encoder runs once; its grid is also turned into the VLM's picture tokens. The VLM's encoder never runs.
* ``separate``: both run, as in LISA.

All encoders get the same square (see ``square``), so their grids differ in scale alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import torch
from peft import PeftModel
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForImageTextToText,
    PretrainedConfig,
    PreTrainedModel,
    SamConfig,
    SamModel,
)
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.models.sam.modeling_sam import SamLayerNorm
from transformers.utils import ModelOutput

from foveal.errors import UserError
from foveal.tasks.segmentation.losses import iou_regression, mask_bce, mask_dice
from foveal.tasks.segmentation.mask_token import TokenEmbeddings
from foveal.tasks.segmentation.sam import SamParts
from foveal.vlm.components import component_modules
from foveal.vlm.logits import IGNORE, only_positions

Vision = Literal["vlm", "sam", "separate"]
#: Tensors of a processor that hold or describe pixels; with ``vision: sam`` the VLM gets none of them.
PIXELS = ("pixel_values", "pixel_attention_mask", "image_sizes", "image_grid_thw")


class SegmenterConfig(PretrainedConfig):  # type: ignore[misc]
    """Configuration of a SharedEncoderSegmenter.

    Args:
        vlm: The VLM's configuration as a dictionary.
        sam: SAM's configuration as a dictionary.
        vision: Which encoder the picture's features come from.
        token: Id of ``<SEG>``.
        image_token: Id of a picture's token in the VLM's prompts.
        picture_width: Channels of the patches that go into the VLM's projector.
        language_width: Width of the language model.
        listed: Whether the VLM takes picture tokens as a list with one tensor for each picture, not as one tensor.
        own_rows: Whether the token has embeddings beside the frozen tables.
        whole: Whether checkpoints hold all weights, not only trained ones.
        fine: Whether the grid of ``vision: vlm`` is made by ``PatchesToFineGrid``.
        new_sam: Whether SAM's parts were initialised at random; checkpoints then hold all of them.
        losses: Weights of text, bce, dice and iou.
    """

    model_type = "foveal_segmenter"

    def __init__(
        self, vlm: Mapping[str, Any] | None = None, sam: Mapping[str, Any] | None = None, vision: Vision = "vlm",
        token: int = 0, image_token: int = 0, picture_width: int = 0, language_width: int = 0, listed: bool = False,
        own_rows: bool = False, whole: bool = True, new_sam: bool = False, fine: bool = False, losses: Sequence[float] = (1.0, 2.0, 0.5, 0.0), **more: Any,
    ) -> None:  # fmt: skip
        super().__init__(**more)
        self.vlm, self.sam, self.vision = dict(vlm or {}), dict(sam or {}), vision
        self.token, self.image_token = token, image_token
        self.picture_width, self.language_width = picture_width, language_width
        self.listed, self.own_rows, self.whole, self.new_sam = listed, own_rows, whole, new_sam
        self.fine, self.losses = fine, list(losses)


@dataclass
class SegmenterOutput(ModelOutput):  # type: ignore[misc]
    """Output for a batch.

    Attributes:
        loss: Weighted sum of the losses over the normaliser; None without targets.
        losses: text, bce, dice and iou, unweighted, over the same normaliser.
        masks: Logits [M, S, S] of all masks, row after row.
        ious: The predicted IoU of each mask [M].
        rows: Row of the batch that each mask belongs to [M].
    """

    loss: torch.Tensor | None = None
    losses: Mapping[str, torch.Tensor] | None = None
    masks: torch.Tensor | None = None
    ious: torch.Tensor | None = None
    rows: torch.Tensor | None = None


@dataclass
class Recorded:
    """Tensors recorded during forward passes.

    Attributes:
        states: Inputs of the output embedding, one [B, T, W] for each forward pass.
        patches: Inputs of the VLM's projector.
    """

    states: list[torch.Tensor]
    patches: list[torch.Tensor]


class SharedEncoderSegmenter(PreTrainedModel):  # type: ignore[misc]
    """The network; see the module.

    Args:
        config: Its configuration.
        vlm: The VLM, possibly quantised or with adapters; built from the configuration by default.
        sam: SAM's parts; built likewise by default.
    """

    config_class = SegmenterConfig
    base_model_prefix = "segmenter"

    def __init__(self, config: SegmenterConfig, vlm: nn.Module | None = None, sam: SamParts | None = None) -> None:
        super().__init__(config)
        if vlm is None:
            vlm = AutoModelForImageTextToText.from_config(AutoConfig.for_model(**config.vlm))
            if config.vision == "sam":
                drop_vision(vlm)
        if sam is None:
            sam = SamParts(SamModel(SamConfig(**config.sam)), encoder=config.vision != "vlm")
        self.vlm, self.sam = vlm, sam
        width = config.language_width
        # Two layers, as LISA projects the hidden state.
        self.to_prompt = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, sam.width))
        if config.vision == "vlm":
            width = config.picture_width
            self.to_grid: nn.Module = (
                PatchesToFineGrid(width, sam.width) if config.fine else PatchesToGrid(width, sam.width, sam.grid)
            )
        elif config.vision == "sam":
            self.to_tokens = GridToTokens(sam.width, sam.grid, config.language_width)
        self.rows = TokenEmbeddings(self._base, config.token) if config.own_rows else None

    def _init_weights(self, module: nn.Module) -> None:
        """Each part initialises itself."""

    @property
    def _base(self) -> Any:
        vlm: Any = self.vlm
        return vlm.get_base_model() if isinstance(vlm, PeftModel) else vlm

    # ---------------------------------------------------------------- pictures and masks

    def vlm_inputs(
        self, inputs: Mapping[str, torch.Tensor], sam_pixels: torch.Tensor | None
    ) -> tuple[dict[str, Any], torch.Tensor | None]:
        """Runs SAM's encoder, if it is used, and puts its features in place of the VLM's pixels with ``vision: sam``.

        Returns:
            The VLM's keyword arguments, and SAM's embeddings [B, C, G, G] or None.
        """
        if sam_pixels is None:
            return dict(inputs), None
        assert self.sam.vision_encoder is not None
        grid: torch.Tensor = self.sam.vision_encoder(sam_pixels.to(self.sam.no_mask.weight.dtype))[0]
        if self.config.vision != "sam":
            return dict(inputs), grid
        # Qwen-VL computes positions from image_grid_thw, so that stays.
        arguments: dict[str, Any] = {k: v for k, v in inputs.items() if k not in PIXELS or k == "image_grid_thw"}
        counts = (inputs["input_ids"] == self.config.image_token).sum(1).tolist()
        if self.config.listed:  # Pictures may have different numbers of tokens.
            tokens: Any = [self.to_tokens(one[None], n)[0] for one, n in zip(grid, counts, strict=True)]
        else:
            tokens = self.to_tokens(grid, counts[0])
        arguments["mm_encoder_outputs"] = {"image": BaseModelOutputWithPooling(pooler_output=tokens)}
        return arguments, grid

    @contextmanager
    def record(self) -> Iterator[Recorded]:
        """Records hidden states, and patches with ``vision: vlm``, while the context lasts."""
        with ExitStack() as stack:
            states = stack.enter_context(recorded_inputs(self._base.get_output_embeddings()))
            is_needed = self.config.vision == "vlm"
            patches = stack.enter_context(recorded_inputs(projector_of(self._base))) if is_needed else []
            yield Recorded(states, patches)

    def decode_masks(
        self, states: torch.Tensor, rows: torch.Tensor, grid: torch.Tensor | None, recorded: Recorded
    ) -> SegmenterOutput:
        """Masks of hidden states.

        Args:
            states: [M, W], each of which predicted ``<SEG>``.
            rows: [M], the row of each, ascending.
            grid: SAM's embeddings [B, C, G, G]; None with ``vision: vlm``.
            recorded: Holds the VLM's patches then.

        Returns:
            Mask logits [M, 4G, 4G], predicted IoU [M] and the rows.
        """
        grid = self.to_grid(recorded.patches[0]) if grid is None else grid
        if not len(states):
            side = 4 * self.sam.grid
            return SegmenterOutput(masks=grid.new_zeros((0, side, side)), ious=grid.new_zeros(0), rows=rows)
        prompts = self.to_prompt(states.to(next(self.to_prompt.parameters()).dtype))
        # Mostly each picture has one prompt; otherwise pictures are repeated.
        one_each = bool((torch.bincount(rows, minlength=len(grid)) == 1).all())
        masks, ious = self.sam.decode(grid if one_each else grid[rows], prompts[:, None])
        return SegmenterOutput(masks=masks[:, 0], ious=ious[:, 0], rows=rows)

    # ---------------------------------------------------------------- training

    def forward(
        self,
        labels: torch.Tensor,
        targets: torch.Tensor | None = None,
        counted: torch.Tensor | None = None,
        amounts: torch.Tensor | None = None,
        sam_pixels: torch.Tensor | None = None,
        normaliser: torch.Tensor | float | None = None,
        **inputs: torch.Tensor,
    ) -> SegmenterOutput:
        """Masks and losses of a batch. Each loss is a mean over a row's tokens or masks, summed over the rows.

        Args:
            labels: [B, L], -100 outside the answers.
            targets: [B, K, S, S], shares between 0 and 1, float or uint8 (in 255ths). None computes no loss.
            counted: [B, S, S], the share of each pixel that counts, in the same form.
            amounts: [B], number of targets of each row, equal to the number of ``<SEG>`` in its answer.
            sam_pixels: [B, 3, P, P], input of SAM's encoder.
            normaliser: Divides the sums over the rows; the number of rows by default.
            inputs: The VLM's tensors.
        """
        arguments, grid = self.vlm_inputs(inputs, sam_pixels)
        is_answer = labels[:, 1:] != IGNORE
        needed = torch.zeros_like(labels, dtype=torch.bool)
        needed[:, :-1] = is_answer
        with self.record() as recorded, only_positions(self._base, needed):
            logits = self.vlm(**arguments, use_cache=False).logits[0]
        places = (labels[:, 1:] == self.config.token).nonzero()
        rows = places[:, 0]
        out = self.decode_masks(recorded.states[0][rows, places[:, 1]], rows, grid, recorded)
        if targets is None or counted is None or amounts is None:
            return out
        total = len(labels) if normaliser is None else normaliser
        token_losses = functional.cross_entropy(logits.float(), labels[:, 1:][is_answer], reduction="none")
        lengths = is_answer.sum(1).float()[is_answer.nonzero()[:, 0]]
        losses = {"text": (token_losses / lengths).sum()} | self._mask_losses(out, targets, counted, amounts)
        losses = {name: loss / total for name, loss in losses.items()}
        weighted = (loss * weight for loss, weight in zip(losses.values(), self.config.losses, strict=True))
        return SegmenterOutput(
            loss=sum(weighted, logits.new_zeros((), dtype=torch.float32)),
            losses={name: loss.detach() for name, loss in losses.items()},
            masks=out.masks,
            ious=out.ious,
            rows=out.rows,
        )

    @staticmethod
    def _mask_losses(
        out: SegmenterOutput, targets: torch.Tensor, counted: torch.Tensor, amounts: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """bce, dice and iou: means over each row's masks, summed over the rows."""
        assert out.masks is not None and out.ious is not None and out.rows is not None
        rows = out.rows
        # The place of each mask among those of its row; rows are ascending.
        order = torch.arange(len(rows), device=rows.device) - torch.searchsorted(rows.contiguous(), rows.contiguous())
        target, weight = _to_float(targets[rows, order]), _to_float(counted[rows])
        logits = functional.interpolate(
            out.masks[:, None].float(), size=target.shape[-2:], mode="bilinear", align_corners=False
        )[:, 0]
        share = 1 / amounts.float()[rows].clamp(min=1)
        return {
            "bce": (mask_bce(logits, target, weight) * share).sum(),
            "dice": (mask_dice(logits, target, weight) * share).sum(),
            "iou": (iou_regression(out.ious, logits, target, weight) * share).sum(),
        }

    # ---------------------------------------------------------------- generation

    @torch.no_grad()
    def generate(
        self, inputs: Mapping[str, torch.Tensor], sam_pixels: torch.Tensor | None, *, max_new_tokens: int,
        end_ids: Sequence[int], pad_id: int,
    ) -> tuple[torch.Tensor, SegmenterOutput]:  # fmt: skip
        """Generates replies, and a mask for each ``<SEG>`` in them. Every picture is encoded once.

        Args:
            inputs: Left-padded prompts.
            sam_pixels: Input of SAM's encoder.
            max_new_tokens: Longest reply.
            end_ids: Tokens that end a reply.
            pad_id: Pads shorter replies.

        Returns:
            Token ids of the replies [B, T], and the masks.
        """
        arguments, grid = self.vlm_inputs(inputs, sam_pixels)
        with self.record() as recorded:
            out = self._base.generate(
                **arguments, max_new_tokens=max_new_tokens, do_sample=False, temperature=None, top_p=None, top_k=None,
                eos_token_id=list(end_ids), pad_token_id=pad_id,
            )  # fmt: skip
        ids = out[:, arguments["input_ids"].shape[1] :]
        # The state that predicted each token; for the first it is the prompt's last.
        states = torch.stack([s[:, -1] for s in recorded.states[: ids.shape[1]]], 1)
        places = (ids == self.config.token).nonzero()
        rows = places[:, 0]
        return ids, self.decode_masks(states[rows, places[:, 1]], rows, grid, recorded)

    # ---------------------------------------------------------------- checkpoints

    def save_pretrained(self, save_directory: str | Path, **_: Any) -> None:
        """Writes config.json and model.safetensors: all weights, or the trained ones (``SegmenterConfig.whole``)."""
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        self.config.architectures = [type(self).__name__]
        self.config.save_pretrained(folder)
        save_file(self._checkpoint_tensors(), str(folder / "model.safetensors"), metadata={"format": "pt"})

    def _checkpoint_tensors(self) -> dict[str, torch.Tensor]:
        """The tensors of a checkpoint; of shared weights the first name."""
        trained = {name for name, p in self.named_parameters() if p.requires_grad}
        tensors: dict[str, torch.Tensor] = {}
        seen: set[int] = set()
        for name, tensor in self.state_dict().items():
            # A randomly initialised SAM exists nowhere else, including its fixed positions.
            stored = self.config.whole or name in trained or (self.config.new_sam and name.startswith("sam."))
            if stored and tensor.data_ptr() not in seen:
                seen.add(tensor.data_ptr())
                tensors[name] = tensor.detach().contiguous().cpu()
        return tensors

    def load_checkpoint(self, file: Path) -> None:
        """Loads what ``save_pretrained`` wrote.

        Raises:
            UserError: The file is missing, damaged or of another model.
        """
        try:
            tensors = load_file(str(file))
        except (OSError, SafetensorError) as error:
            reason = str(error).strip().splitlines()[0].rstrip(".")
            raise UserError(f"{file}: is no checkpoint of a segmenter ({reason}); name a run's checkpoint.") from error
        state = self.state_dict()
        bad = [k for k, v in tensors.items() if k not in state or state[k].shape != v.shape]
        if bad:
            raise UserError(
                f"{file}: does not fit this model ({bad[0]}); give the model section that it was trained with."
            )
        self.load_state_dict(tensors, strict=False)

    @classmethod
    def from_pretrained(cls, folder: str | Path, *_: Any, config: Any = None, **__: Any) -> Self:
        """Opens a checkpoint that holds all weights.

        Raises:
            UserError: It holds only the trained weights; open it through its run.
        """
        config = config or SegmenterConfig.from_pretrained(folder)
        if not config.whole:
            raise UserError(f"{folder}: holds only the weights that were learned; open the run with foveal.load.")
        model = cls(config)
        model.load_checkpoint(Path(folder) / "model.safetensors")
        model.eval()
        return model


class PatchesToGrid(nn.Module):
    """The VLM's patches [B, n * n, V] on SAM's grid [B, C, G, G]: projected, scaled, and smoothed as SAM's neck does."""

    def __init__(self, width: int, channels: int, grid: int) -> None:
        super().__init__()
        self.grid = grid
        self.project = nn.Conv2d(width, channels, 1, bias=False)
        self.norm_in = nn.GroupNorm(1, channels)
        self.smooth = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm_out = nn.GroupNorm(1, channels)

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        """See the class."""
        n = math.isqrt(patches.shape[1])
        plane = patches.to(self.project.weight.dtype).transpose(1, 2).reshape(len(patches), -1, n, n)
        plane = self.norm_in(self.project(plane))
        if n != self.grid:
            # Antialiased when shrinking; CPUs cannot do that in bfloat16.
            size = (self.grid, self.grid)
            plane = functional.interpolate(
                plane.float(), size=size, mode="bilinear", align_corners=False, antialias=n > self.grid
            )
        return self.norm_out(self.smooth(plane))  # type: ignore[no-any-return]


class PatchesToFineGrid(nn.Module):
    """The VLM's patches [B, n * n, V] on a grid twice as fine, [B, C, 2n, 2n].

    Each patch is spread over four places, which are smoothed; norms are of each place by itself, as in SAM's neck.
    """

    def __init__(self, width: int, channels: int) -> None:
        super().__init__()
        self.spread = nn.ConvTranspose2d(width, channels, 2, stride=2, bias=False)
        self.norm_in = SamLayerNorm(channels, data_format="channels_first")
        self.smooth = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm_out = SamLayerNorm(channels, data_format="channels_first")

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        """See the class."""
        n = math.isqrt(patches.shape[1])
        plane = patches.to(self.spread.weight.dtype).transpose(1, 2).reshape(len(patches), -1, n, n)
        return self.norm_out(self.smooth(self.norm_in(self.spread(plane))))  # type: ignore[no-any-return]


class GridToTokens(nn.Module):
    """SAM's grid [B, C, G, G] as picture tokens [B, n * n, W]: blocks of 4 x 4 places, projected in two layers."""

    def __init__(self, channels: int, grid: int, width: int) -> None:
        super().__init__()
        self.grid, self.block = grid, 4
        self.project = nn.Sequential(nn.Linear(channels * self.block**2, width), nn.GELU(), nn.Linear(width, width))

    def forward(self, grid: torch.Tensor, tokens: int) -> torch.Tensor:
        """See the class."""
        n = math.isqrt(tokens)
        side = n * self.block
        if side != grid.shape[-1]:
            # Antialiased when shrinking; CPUs cannot do that in bfloat16.
            grid = functional.interpolate(
                grid.float(), size=(side, side), mode="bilinear", align_corners=False, antialias=True
            )
        blocks = functional.pixel_unshuffle(grid, self.block).flatten(2).transpose(1, 2)
        return self.project(blocks)  # type: ignore[no-any-return]


def projector_of(vlm: nn.Module) -> nn.Module:
    """The module that takes the patches of a VLM's encoder."""
    return vlm.get_submodule(component_modules(vlm, "projector")[0])


@contextmanager
def recorded_inputs(module: nn.Module) -> Iterator[list[torch.Tensor]]:
    """The first argument of each forward pass of a module while the context lasts."""
    recorded: list[torch.Tensor] = []
    handle = module.register_forward_pre_hook(
        lambda _, args, kwargs: recorded.append(args[0] if args else next(iter(kwargs.values()))), with_kwargs=True
    )
    try:
        yield recorded
    finally:
        handle.remove()


def drop_vision(vlm: nn.Module) -> None:
    """Removes a VLM's encoder and projector, which take memory and are not used with ``vision: sam``."""
    for component in ("vision", "projector"):
        for name in component_modules(vlm, component):
            parent, _, leaf = name.rpartition(".")
            setattr(vlm.get_submodule(parent), leaf, nn.Identity())


def _to_float(shares: torch.Tensor) -> torch.Tensor:
    return shares.float() / 255 if shares.dtype == torch.uint8 else shares.float()


AutoConfig.register(SegmenterConfig.model_type, SegmenterConfig)
AutoModel.register(SegmenterConfig, SharedEncoderSegmenter)
