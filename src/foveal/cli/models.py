"""`foveal models`: what can be taught."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from foveal.config.arguments import Parser
from foveal.config.sections import Model
from foveal.quiet import quiet
from foveal.vlm.families import families
from foveal.vlm.finding import check_model_id


def memory(billions: float) -> tuple[float, float, float]:
    """GB of weights (and optimizer states) for: bfloat16 weights; NF4 weights; whole training in float32 with AdamW.

    Weights take 2 bytes each in bfloat16 and about 0.56 in NF4 with double quantisation (vision tower and projector stay
    in bfloat16; counted as a tenth of the model). Whole training: 4 bytes each for weight, gradient and two moments.
    Activations come on top in every case.
    """
    return 2 * billions, billions * (0.9 * 0.56 + 0.1 * 2), 16 * billions


def parser() -> Parser:
    """The command's options."""
    p = Parser(prog="foveal models", description="Lists models, or shows the components of one (loads it).")
    p.add_argument("id", nargs="?", help="builtin, a Hub id or a folder")
    return p


def run(arguments: Sequence[str], console: Console) -> int:
    """Lists or shows."""
    given = parser().parse_args(list(arguments))
    if given.id:
        return _show(given.id, console)
    table = Table(
        title="Any image-text-to-text model of transformers can be named; these are known.", title_justify="left"
    )
    for name in ("model", "family", "parameters", "bf16", "NF4", "whole"):
        table.add_column(name, justify="left" if name in ("model", "family") else "right", overflow="fold")
    for family in families():
        for model, billions in family.checkpoints.items():
            size = f"{billions:.2f}B" if billions >= 0.1 else f"{billions * 1000:.1f}M"
            gigabytes = (f"{gb:.1f}" if gb >= 0.1 else f"{gb:.3f}" for gb in memory(billions))
            table.add_row(model, family.name, size, *gigabytes)
    console.print(table)
    console.print(
        "GB of the weights alone in bfloat16 and in NF4, and of training them whole in float32 (weights, gradients, "
        "AdamW's moments). Activations come on top.",
        soft_wrap=True,
    )
    return 0


def _show(model_id: str, console: Console) -> int:
    check_model_id(Model(id=model_id))
    from foveal.vlm.components import linear_layers, sizes
    from foveal.vlm.loading import load

    quiet()
    vlm = load(Model(id=model_id))
    table = Table(title=f"{model_id} ({vlm.family}), context {vlm.context} tokens", title_justify="left")
    for name in ("component", "parameters", "layers that adapters can go to"):
        table.add_column(name, justify="left" if name == "component" else "right")
    for size in sizes(vlm.base):
        layers = linear_layers(vlm.base, size.component)
        table.add_row(size.component, f"{size.parameters:,}", str(len(layers)))
    console.print(table)
    return 0
