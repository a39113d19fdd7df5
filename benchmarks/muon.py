"""A step of Muon on the matrices of the built-in model: torch's own (bfloat16) and Foveal's (float32 on a CPU).

    python benchmarks/muon.py [--threads 1] [--repeats 15]

Both take the same gradients in turn in one run; medians. torch's iterates in bfloat16, for which many processors have no
instructions.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
from torch.optim import Muon

from foveal.config.sections import Model
from foveal.training.optimizers import MuonWithAdamW
from foveal.vlm.loading import load


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=15)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    named = load(Model(id="builtin", device="cpu")).model.named_parameters()
    matrices = [p.detach() for n, p in named if p.ndim == 2 and "embed" not in n and "lm_head" not in n]
    copies = [[torch.nn.Parameter(m.clone()) for m in matrices] for _ in range(2)]
    optimizers = {
        "torch.optim.Muon": Muon(copies[0], lr=0.005),
        "Foveal": MuonWithAdamW([{"params": copies[1], "lr": 0.005}], []),
    }
    seconds: dict[str, list[float]] = {name: [] for name in optimizers}
    for repeat in range(args.repeats + 2):
        gradients = [torch.randn_like(m) for m in matrices]
        for parameters, (name, optimizer) in zip(copies, optimizers.items(), strict=True):
            for p, gradient in zip(parameters, gradients, strict=True):
                p.grad = gradient
            started = time.perf_counter()
            optimizer.step()
            if repeat >= 2:
                seconds[name].append(time.perf_counter() - started)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    for name, median in medians.items():
        print(f"{name:<18}{1000 * median:8.1f} ms a step")
    print(
        f"ratio {medians['torch.optim.Muon'] / medians['Foveal']:.1f} ({len(matrices)} matrices, {args.threads} threads)"
    )


if __name__ == "__main__":
    main()
