"""SharedEncoderSegmenter: a VLM that writes `<SEG>` and SAM's mask decoder, which looks through the same eyes.

The VLM reads the picture and the sentence; the hidden state from which it predicts the token `<SEG>` is projected to
SAM's prompt space and asks the mask decoder for one mask (the mask-as-an-embedding idea of LISA, Lai et al. 2023,
arXiv 2308.00692). Where the picture's features come from is ``vision``:

* ``vlm``: the VLM's tower runs once; the patches that go into its projector are also projected to SAM's grid.
* ``sam``: SAM's encoder runs once; its grid is also cut into the VLM's picture tokens, and the VLM's tower never runs.
* ``separate``: both run, as in LISA.

All of them see the square of ``frame``, so that grids are aligned by scale alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
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
from transformers.utils import ModelOutput

from foveal.errors import UserError
from foveal.tasks.segmentation.loss_weights import LossWeights
from foveal.tasks.segmentation.losses import iou_regression, mask_bce, mask_dice
from foveal.tasks.segmentation.sam import SamParts
from foveal.tasks.segmentation.seg_token import TokenRows
from foveal.vlm.components import component_modules
from foveal.vlm.logits import IGNORE, only_positions

Vision = Literal["vlm", "sam", "separate"]
#: Tensors of a processor that hold or describe pixels; with ``vision: sam`` the VLM gets none of them.
PIXELS = ("pixel_values", "pixel_attention_mask", "image_sizes", "image_grid_thw")


class SegmenterConfig(PretrainedConfig):  # type: ignore[misc]
    """What a segmenter is made of.

    Args:
        vlm: The VLM's configuration as a dictionary.
        sam: SAM's configuration as a dictionary.
        vision: Whose encoder looks at the picture.
        token: Id of ``<SEG>``.
        image_token: Id of a picture's token in the VLM's prompts.
        picture_width: Channels of the patches that go into the VLM's projector.
        language_width: Width of the language model.
        listed: Whether the VLM takes a list of each picture's tokens, and not one tensor.
        own_rows: Whether the token's rows are kept beside frozen embeddings.
        whole: Whether a checkpoint holds all weights, and not only those that were learned.
        new_sam: Whether SAM's parts were drawn anew, so that every checkpoint holds them all.
        losses: Weights of text, bce, dice and iou.
    """

    model_type = "foveal_segmenter"

    def __init__(
        self, vlm: Mapping[str, Any] | None = None, sam: Mapping[str, Any] | None = None, vision: Vision = "vlm",
        token: int = 0, image_token: int = 0, picture_width: int = 0, language_width: int = 0, listed: bool = False,
        own_rows: bool = False, whole: bool = True, new_sam: bool = False, losses: Sequence[float] = (1.0, 2.0, 0.5, 0.0), **more: Any,
    ) -> None:  # fmt: skip
        super().__init__(**more)
        self.vlm, self.sam, self.vision = dict(vlm or {}), dict(sam or {}), vision
        self.token, self.image_token = token, image_token
        self.picture_width, self.language_width = picture_width, language_width
        self.listed, self.own_rows, self.whole, self.new_sam = listed, own_rows, whole, new_sam
        self.losses = list(losses)


@dataclass
class SegmenterOutput(ModelOutput):  # type: ignore[misc]
    """What a segmenter says of a batch with answers.

    Attributes:
        loss: Weighted sum of the losses over the normaliser; None without targets.
        losses: text, bce, dice and iou, unweighted, over the same normaliser.
        masks: Logits [M, S, S] of all masks, row after row.
        ious: The predicted IoU of each [M].
        rows: Which row of the batch each mask belongs to [M].
    """

    loss: torch.Tensor | None = None
    losses: Mapping[str, torch.Tensor] | None = None
    masks: torch.Tensor | None = None
    ious: torch.Tensor | None = None
    rows: torch.Tensor | None = None


class SharedEncoderSegmenter(PreTrainedModel):  # type: ignore[misc]
    """See the module.

    Args:
        config: What it is made of.
        vlm: The VLM, with adapters or quantised as may be; drawn anew from the configuration by default.
        sam: SAM's parts; likewise.
    """

    config_class = SegmenterConfig
    base_model_prefix = "segmenter"

    def __init__(self, config: SegmenterConfig, vlm: nn.Module | None = None, sam: SamParts | None = None) -> None:
        super().__init__(config)
        if vlm is None:
            described = AutoConfig.for_model(**config.vlm)
            vlm = AutoModelForImageTextToText.from_config(described)
            if config.vision == "sam":
                drop_tower(vlm)
        if sam is None:
            sam = SamParts(SamModel(SamConfig(**config.sam)), encoder=config.vision != "vlm")
        self.vlm, self.sam = vlm, sam
        width = config.language_width
        # Two layers, as LISA projects the hidden state.
        self.to_prompt = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, sam.width))
        if config.vision == "vlm":
            self.to_grid = PatchesToGrid(config.picture_width, sam.width, sam.grid)
        elif config.vision == "sam":
            self.to_tokens = GridToTokens(sam.width, sam.grid, config.language_width)
        self.rows = TokenRows(self._base, config.token) if config.own_rows else None

    def _init_weights(self, module: nn.Module) -> None:
        """The parts bring their own weights."""

    @property
    def _base(self) -> Any:
        inner: Any = self.vlm
        return inner.get_base_model() if isinstance(inner, PeftModel) else inner

    # ---------------------------------------------------------------- seeing

    def see(self, inputs: Mapping[str, torch.Tensor], sam_pixels: torch.Tensor | None) -> dict[str, Any]:
        """What the VLM is given: its inputs, with SAM's features in place of pixels where SAM's encoder looks for both.

        Returns:
            The VLM's keyword arguments, and under ``grid`` the embeddings [B, C, G, G] where they are known already.
        """
        given: dict[str, Any] = dict(inputs)
        if sam_pixels is None:
            return given
        assert self.sam.vision_encoder is not None
        grid = self.sam.vision_encoder(sam_pixels.to(self.sam.no_mask.weight.dtype))[0]
        given["grid"] = grid
        if self.config.vision == "sam":
            # Qwen-VL places its tokens by image_grid_thw, so that stays.
            given = {k: v for k, v in given.items() if k not in PIXELS or k == "image_grid_thw"}
            each = (given["input_ids"] == self.config.image_token).sum(1).tolist()
            if self.config.listed:  # Pictures may have different numbers of tokens.
                pooled: Any = [self.to_tokens(one[None], n)[0] for one, n in zip(grid, each, strict=True)]
            else:
                pooled = self.to_tokens(grid, each[0])
            given["mm_encoder_outputs"] = {"image": BaseModelOutputWithPooling(pooler_output=pooled)}
        return given

    @contextmanager
    def watch(self) -> Iterator[Watched]:
        """While it lasts, keeps the patches that go into the VLM's projector and the states that words are chosen from."""
        watched = Watched()

        def hidden(_: nn.Module, args: tuple[torch.Tensor, ...]) -> None:
            watched.states.append(args[0])

        def patches(_: nn.Module, args: tuple[torch.Tensor, ...], kwargs: dict[str, Any]) -> None:
            watched.patches.append(args[0] if args else next(iter(kwargs.values())))

        handles = [self._base.get_output_embeddings().register_forward_pre_hook(hidden)]
        if self.config.vision == "vlm":
            handles.append(self._projector().register_forward_pre_hook(patches, with_kwargs=True))
        try:
            yield watched
        finally:
            for handle in handles:
                handle.remove()

    def _projector(self) -> nn.Module:
        names = component_modules(self._base, "projector")
        module: nn.Module = self._base.get_submodule(names[0])
        return module

    def grid_of(self, watched: Watched, given: torch.Tensor | None) -> torch.Tensor:
        """SAM's embeddings [B, C, G, G]: those of its own encoder, or the VLM's patches on SAM's grid."""
        return given if given is not None else self.to_grid(watched.patches[0])

    def draw(self, states: torch.Tensor, rows: torch.Tensor, grid: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Masks of hidden states.

        Args:
            states: [M, W], from which ``<SEG>`` is predicted.
            rows: [M], the picture of each, ascending.
            grid: [B, C, G, G].

        Returns:
            Logits [M, 4G, 4G] and predicted IoU [M].
        """
        if not len(states):
            side = 4 * self.sam.grid
            return grid.new_zeros((0, side, side)), grid.new_zeros(0)
        prompts = self.to_prompt(states.to(next(self.to_prompt.parameters()).dtype))
        counts = torch.bincount(rows, minlength=len(grid))
        # One prompt for each picture is the common case; else the pictures are repeated.
        if bool((counts == 1).all()):
            masks, ious = self.sam.decode(grid, prompts[:, None])
        else:
            masks, ious = self.sam.decode(grid[rows], prompts[:, None])
        return masks[:, 0], ious[:, 0]

    # ---------------------------------------------------------------- learning

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
        """The losses of a batch, each row's by its own means: over its answer's tokens, and over its masks.

        Args:
            labels: [B, L], -100 wherever there is no answer.
            targets: [B, K, S, S], shares between 0 and 1, float or uint8 (in 255ths); None only draws the masks.
            counted: [B, S, S], the share of each pixel that counts, likewise.
            amounts: [B], how many of the K targets each row has: as many as its answer has ``<SEG>``.
            sam_pixels: [B, 3, P, P], what SAM's encoder sees.
            normaliser: What the rows' sums are divided by; their number by default.
            inputs: The VLM's tensors.
        """
        given = self.see(inputs, sam_pixels)
        grid = given.pop("grid", None)
        asked = labels[:, 1:] != IGNORE
        keep = torch.zeros_like(labels, dtype=torch.bool)
        keep[:, :-1] = asked
        with self.watch() as watched, only_positions(self._base, keep):
            logits = self.vlm(**given, use_cache=False).logits[0]
        said = functional.cross_entropy(logits.float(), labels[:, 1:][asked], reduction="none")
        places = asked.nonzero()[:, 0]
        here = (labels[:, 1:] == self.config.token).nonzero()
        rows = here[:, 0]
        states = watched.states[0][rows, here[:, 1]]
        masks, ious = self.draw(states, rows, self.grid_of(watched, grid))
        if targets is None or counted is None or amounts is None:
            return SegmenterOutput(masks=masks, ious=ious, rows=rows)
        total = len(labels) if normaliser is None else normaliser
        share = asked.sum(1).float()[places]
        text = (said / share).sum() / total
        order = torch.arange(len(rows), device=rows.device) - _starts(rows)
        wanted, weights = _unit(targets[rows, order]), _unit(counted[rows])
        drawn = functional.interpolate(
            masks[:, None].float(), size=wanted.shape[-2:], mode="bilinear", align_corners=False
        )[:, 0]
        weight = 1 / amounts.float()[rows].clamp(min=1)
        parts = {
            "text": text,
            "bce": (mask_bce(drawn, wanted, weights) * weight).sum() / total,
            "dice": (mask_dice(drawn, wanted, weights) * weight).sum() / total,
            "iou": (iou_regression(ious, drawn, wanted, weights) * weight).sum() / total,
        }
        loss = sum((parts[name] * w for name, w in zip(parts, self.config.losses, strict=True)), text.new_zeros(()))
        return SegmenterOutput(
            loss=loss, losses={k: v.detach() for k, v in parts.items()}, masks=masks, ious=ious, rows=rows
        )

    # ---------------------------------------------------------------- answering

    @torch.no_grad()
    def write(
        self, inputs: Mapping[str, torch.Tensor], sam_pixels: torch.Tensor | None, *, max_new_tokens: int,
        end_ids: Sequence[int], pad_id: int,
    ) -> tuple[torch.Tensor, SegmenterOutput]:  # fmt: skip
        """Replies, and a mask for each ``<SEG>`` in them; every picture is encoded once.

        Args:
            inputs: Left-padded prompts.
            sam_pixels: What SAM's encoder sees.
            max_new_tokens: Longest reply.
            end_ids: Tokens that end a reply.
            pad_id: Fills up shorter replies.

        Returns:
            Token ids of the replies [B, T], and the masks.
        """
        given = self.see(inputs, sam_pixels)
        grid = given.pop("grid", None)
        length = given["input_ids"].shape[1]
        with self.watch() as watched:
            out = self._base.generate(
                **given, max_new_tokens=max_new_tokens, do_sample=False, temperature=None, top_p=None, top_k=None,
                eos_token_id=list(end_ids), pad_token_id=pad_id,
            )  # fmt: skip
        ids = out[:, length:]
        # The state that each token was chosen from; the first is the prompt's last.
        states = torch.stack([s[:, -1] for s in watched.states[: ids.shape[1]]], 1)
        here = (ids == self.config.token).nonzero()
        masks, ious = self.draw(states[here[:, 0], here[:, 1]], here[:, 0], self.grid_of(watched, grid))
        return ids, SegmenterOutput(masks=masks, ious=ious, rows=here[:, 0])

    # ---------------------------------------------------------------- saving

    def save_pretrained(self, save_directory: str | Path, **_: Any) -> None:
        """Writes config.json and model.safetensors: all weights, or those that learn (``SegmenterConfig.whole``)."""
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        self.config.architectures = [type(self).__name__]
        self.config.save_pretrained(folder)
        save_file(self.kept(), str(folder / "model.safetensors"), metadata={"format": "pt"})

    def kept(self) -> dict[str, torch.Tensor]:
        """What a checkpoint holds; weights that two names share are kept once."""
        learned = {name for name, p in self.named_parameters() if p.requires_grad}
        found: dict[str, torch.Tensor] = {}
        seen: set[int] = set()
        for name, tensor in self.state_dict().items():
            # Nobody else has what was drawn anew, such as SAM's positions, which never learn.
            own = self.config.whole or name in learned or (self.config.new_sam and name.startswith("sam."))
            if own and tensor.data_ptr() not in seen:
                seen.add(tensor.data_ptr())
                found[name] = tensor.detach().contiguous().cpu()
        return found

    def load_kept(self, file: Path) -> None:
        """Takes up what ``save_pretrained`` wrote.

        Raises:
            UserError: The file is missing, damaged or of another model.
        """
        try:
            state = load_file(str(file))
        except (OSError, SafetensorError) as error:
            reason = str(error).strip().splitlines()[0].rstrip(".")
            raise UserError(f"{file}: is no checkpoint of a segmenter ({reason}); name a run's checkpoint.") from error
        own = self.state_dict()
        bad = [k for k, v in state.items() if k not in own or own[k].shape != v.shape]
        if bad:
            raise UserError(
                f"{file}: does not fit this model ({bad[0]}); give the model section that it was trained with."
            )
        self.load_state_dict(state, strict=False)

    @classmethod
    def from_pretrained(cls, folder: str | Path, *_: Any, config: Any = None, **__: Any) -> Self:
        """A segmenter whose checkpoint holds all weights, from its folder alone.

        Raises:
            UserError: It holds only what was learned; open it through its run.
        """
        config = config or SegmenterConfig.from_pretrained(folder)
        if not config.whole:
            raise UserError(f"{folder}: holds only the weights that were learned; open the run with foveal.load.")
        model = cls(config)
        model.load_kept(Path(folder) / "model.safetensors")
        model.eval()
        return model


class Watched:
    """What passed by in a forward pass.

    Attributes:
        states: Inputs of the output embedding, one [B, T, W] for each forward pass.
        patches: Inputs of the projector.
    """

    def __init__(self) -> None:
        self.states: list[torch.Tensor] = []
        self.patches: list[torch.Tensor] = []


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
            # Where there are more patches than places none may fall between them; CPUs cannot do that in bfloat16.
            size = (self.grid, self.grid)
            plane = functional.interpolate(
                plane.float(), size=size, mode="bilinear", align_corners=False, antialias=n > self.grid
            )
        return self.norm_out(self.smooth(plane))  # type: ignore[no-any-return]


class GridToTokens(nn.Module):
    """SAM's grid [B, C, G, G] as picture tokens [B, n * n, W]: blocks of places side by side, projected in two layers."""

    def __init__(self, channels: int, grid: int, width: int) -> None:
        super().__init__()
        self.grid, self.block = grid, 4
        self.project = nn.Sequential(nn.Linear(channels * self.block**2, width), nn.GELU(), nn.Linear(width, width))

    def forward(self, grid: torch.Tensor, tokens: int) -> torch.Tensor:
        """See the class."""
        n = math.isqrt(tokens)
        side = n * self.block
        if side != grid.shape[-1]:
            # Antialiased, for there may be fewer places than before; which CPUs cannot do in bfloat16.
            grid = functional.interpolate(
                grid.float(), size=(side, side), mode="bilinear", align_corners=False, antialias=True
            )
        blocks = functional.pixel_unshuffle(grid, self.block).flatten(2).transpose(1, 2)
        return self.project(blocks)  # type: ignore[no-any-return]


def drop_tower(vlm: nn.Module) -> None:
    """Takes a VLM's own eyes out: with SAM's encoder they would only take memory."""
    for component in ("vision", "projector"):
        for name in component_modules(vlm, component):
            parent, _, leaf = name.rpartition(".")
            setattr(vlm.get_submodule(parent), leaf, nn.Identity())


def _starts(rows: torch.Tensor) -> torch.Tensor:
    """For ascending rows, the index of the first entry of each one's row."""
    first = torch.searchsorted(rows.contiguous(), rows.contiguous())
    return first


def _unit(shares: torch.Tensor) -> torch.Tensor:
    return shares.float() / 255 if shares.dtype == torch.uint8 else shares.float()


def loss_weights(weights: LossWeights) -> list[float]:
    """As a configuration keeps them."""
    return [weights.text, weights.bce, weights.dice, weights.iou]


AutoConfig.register(SegmenterConfig.model_type, SegmenterConfig)
AutoModel.register(SegmenterConfig, SharedEncoderSegmenter)
