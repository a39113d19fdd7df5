"""What a model's vision tower knows of figures: linear probes on its patches, nothing else is trained.

    python scripts/pretrain_builtin/probe.py builtin

Scenes are those of the counting task. On the patch that holds a figure's middle, logistic regressions tell its shape (8) and its
colour (8); on every patch another one tells whether a middle is there, and a linear regression where in the patch. ``place`` is the
distance, in patches, from a figure's middle to the nearest middle that is found. Probes learn from scenes of the split ``train``, all figures
of ``test`` are held out.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from foveal.config.sections import Model
from foveal.drawing.figures import COLOURS, SHAPES
from foveal.tasks.counting.generate import SceneOptions, Scenes
from foveal.vlm.loading import load

PATCH, SIZE = 14, 168


@torch.no_grad()
def features(tower: nn.Module, scenes: Scenes, size: int) -> tuple[torch.Tensor, list[Any]]:
    """States of all patches [scenes, patches, width], and each scene's figures."""
    states, figures = [], []
    for first in range(0, len(scenes), 50):
        made = [scenes.scene(i) for i in range(first, min(first + 50, len(scenes)))]
        pixels = torch.from_numpy(np.stack([np.asarray(s.draw(size)) for s in made])).permute(0, 3, 1, 2)
        states.append(tower((pixels.float() / 255 - 0.98) / 0.25).last_hidden_state.float())
        figures += [s.figures for s in made]
    return torch.cat(states), figures


def places(figures: list[Any], side: int) -> dict[str, torch.Tensor]:
    """Of all figures: scene, patch, shape, colour, and the middle's place in the patch [figures, 2], in patches."""
    rows: list[tuple[int, ...]] = []
    offsets = []
    for k, scene in enumerate(figures):
        for f in scene:
            left, top, right, bottom = f.box
            x, y = (min(side - 1e-6, v * side) for v in ((left + right) / 2, (top + bottom) / 2))
            rows.append((k, int(y) * side + int(x), list(SHAPES).index(f.shape), list(COLOURS).index(f.colour)))
            offsets.append((x % 1 - 0.5, y % 1 - 0.5))
    table = torch.tensor(rows)
    names = ("scene", "patch", "shape", "colour")
    return {n: table[:, i] for i, n in enumerate(names)} | {"offset": torch.tensor(offsets)}


def fitted(x: torch.Tensor, y: torch.Tensor, loss: Any, outputs: int) -> nn.Linear:
    """A linear layer that minimises a mean loss, by L-BFGS from 0."""
    layer = nn.Linear(x.shape[1], outputs)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    optimizer = torch.optim.LBFGS(layer.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        value: torch.Tensor = loss(layer(x), y) + 1e-5 * layer.weight.square().sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return layer


def probe(tower: nn.Module, train: int = 3000, test: int = 1000, size: int = SIZE) -> dict[str, float]:
    """Shares of held-out figures whose shape and colour are right and whose middle is found within one patch."""
    options, side = SceneOptions(0, 10, size, 4, 0.25), size // PATCH
    states, figures = features(tower.eval(), Scenes(train, "train", 11, options), size)
    held, held_figures = features(tower, Scenes(test, "test", 11, options), size)
    mean, scale = states.mean((0, 1)), states.std((0, 1)) + 1e-6
    states, held = (states - mean) / scale, (held - mean) / scale
    seen, new = places(figures, side), places(held_figures, side)
    x, z = states[seen["scene"], seen["patch"]], held[new["scene"], new["patch"]]
    found: dict[str, float] = {"figures": len(z)}
    for name, kinds in (("shape", len(SHAPES)), ("colour", len(COLOURS))):
        layer = fitted(x, seen[name], functional.cross_entropy, kinds)
        found[name] = (layer(z).argmax(1) == new[name]).float().mean().item()
    here = torch.zeros(states.shape[:2])
    here[seen["scene"], seen["patch"]] = 1
    centre = fitted(states.flatten(0, 1), here.flatten()[:, None], functional.binary_cross_entropy_with_logits, 1)
    offset = fitted(x, seen["offset"], functional.mse_loss, 2)
    row, patch = (centre(held)[..., 0] > 0).nonzero().T
    says = torch.stack((patch % side, patch // side), 1) + 0.5 + offset(held[row, patch])
    truth = torch.stack((new["patch"] % side, new["patch"] // side), 1) + 0.5 + new["offset"]
    apart = torch.stack([
        (says[row == k] - point).norm(dim=1).min() if (row == k).any() else torch.tensor(torch.inf)
        for k, point in zip(new["scene"].tolist(), truth, strict=True)
    ])  # fmt: skip
    found["place"] = apart[apart.isfinite()].mean().item()
    found["within one patch"] = (apart <= 1).float().mean().item()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="+", help="a built-in model's name or a model's folder")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    for name in args.model:
        model: Any = load(Model(id=name, resolution=SIZE)).base
        table = {k: round(v, 4) for k, v in probe(model.model.vision_model).items()}
        print(json.dumps({"model": name} | table), flush=True)


if __name__ == "__main__":
    main()
