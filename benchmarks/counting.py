"""How long does a step of sequential counting take: PointCounter beside a VLM that writes its points?

Run it as ``python benchmarks/counting.py``. Both see the same marked pictures, with the true points as answers, so that
both take the same steps; what they say is thrown away, and random weights do as well as trained ones. Pictures are marked
outside of the timed part. Medians of interleaved rounds, wall-clock time.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from foveal.asking.models import LocalModel
from foveal.asking.opening import open_model
from foveal.config.sections import Evaluation, Model, Recipe
from foveal.prompts import Prompt
from foveal.quiet import quiet
from foveal.tasks.counting.specialist import Counter
from foveal.tasks.counting.task import Counting, CountingData
from foveal.vlm.loading import Vlm

Step = Callable[[list[Prompt]], None]


def steps_of(task: Counting, pictures: int) -> list[list[Prompt]]:
    """The marked pictures of each step, [step][picture]: the same number of objects in all pictures."""
    examples = task.load("test").examples
    out: list[list[Prompt]] = []
    for i in range(pictures):
        example = examples[i]
        count = task.count(example)
        things = [*example.fields["things"], None]
        for number, thing in enumerate(things):
            if len(out) <= number:
                out.append([])
            out[number].append(Prompt((count.view(),), task.question(example.fields["category"])))
            count.take(thing.point if thing is not None else "done", "", None)
    return [row for row in out if len(row) == pictures]


def vlm_step(task: Counting, section: Model, new_tokens: int) -> Step:
    """A step of a VLM: it writes a point."""
    recipe = Recipe("counting", task.data, model=section, evaluation=Evaluation(max_new_tokens=new_tokens))
    vlm = open_model(task, recipe)
    assert isinstance(vlm, Vlm)
    model = LocalModel(vlm, recipe)

    def step(prompts: list[Prompt]) -> None:
        with model.evaluating():
            model.reply(prompts, [""] * len(prompts))

    return step


def counter_step(task: Counting, resolution: int | None) -> Step:
    """A step of a PointCounter on the built-in tower."""
    recipe = Recipe("counting", task.data, model=Model("point-counter", resolution=resolution))
    counter = open_model(task, recipe)
    assert isinstance(counter, Counter)

    @torch.inference_mode()
    def step(prompts: list[Prompt]) -> None:
        pixels = torch.stack([counter.tower.pixels(p.opened()[0]) for p in prompts])
        words = counter.tower.text([p.user for p in prompts])
        counter.model(counter.tower.encode(pixels), words)

    return step


def main() -> None:
    """Measures and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--pictures", type=int, default=16, help="pictures that are counted side by side (default 16)")
    parser.add_argument("--objects", type=int, default=8, help="objects in each (default 8)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds (default 5)")
    parser.add_argument("--resolution", type=int, default=224, help="pixels that both look at (default 224)")
    parser.add_argument("--vlm", default="builtin", help="the VLM: builtin, a folder or a Hub id (default builtin)")
    parser.add_argument(
        "--new_tokens", type=int, default=6, help="tokens that it writes (default 6: `63 44` and the end)"
    )
    given = parser.parse_args()
    quiet()
    data = CountingData(
        test=given.pictures,
        min_objects=given.objects,
        max_objects=given.objects,
        image_size=given.resolution,
        wording="short",
    )
    task = Counting(data)
    resolution = given.resolution if given.vlm == "builtin" else None
    ways: dict[str, Step] = {
        "PointCounter, built-in tower": counter_step(task, given.resolution),
        f"VLM {given.vlm}": vlm_step(task, Model(given.vlm, resolution=resolution), given.new_tokens),
    }
    steps = steps_of(task, given.pictures)
    times: dict[tuple[str, int], list[float]] = {}
    for number in range(given.rounds + 1):
        for batch in (1, given.pictures):
            for name, step in ways.items():
                start = time.perf_counter()
                for prompts in steps:
                    step(prompts[:batch])
                # The first round warms up.
                if number:
                    times.setdefault((name, batch), []).append((time.perf_counter() - start) / len(steps) / batch)
    print(
        f"{len(steps)} steps of {given.objects} objects, {given.resolution} pixels, milliseconds per step and picture"
    )
    for (name, batch), values in times.items():
        low, high = 1000 * min(values), 1000 * max(values)
        print(f"{name:<30} batch {batch:>3}: {1000 * statistics.median(values):>8.1f}   ({low:.1f} to {high:.1f})")
    first, second = ways
    for batch in (1, given.pictures):
        ratio = statistics.median(times[second, batch]) / statistics.median(times[first, batch])
        print(f"batch {batch}: a step of the VLM takes {ratio:.1f} times as long")


if __name__ == "__main__":
    main()
