"""All seven puzzles as one task: each row is a question of one puzzle."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final

from PIL import Image

from foveal.errors import UserError
from foveal.examples import SPLITS, Example, Loaded, Split
from foveal.images import Picture
from foveal.prompts import Prompt
from foveal.results import Metric, Metrics, Prediction
from foveal.tasks.blindtest.circles import Circles
from foveal.tasks.blindtest.grids import Grids
from foveal.tasks.blindtest.letters import Letters
from foveal.tasks.blindtest.lines import Lines
from foveal.tasks.blindtest.puzzle import Puzzle, PuzzleData, PuzzleMake
from foveal.tasks.blindtest.shapes import Shapes
from foveal.tasks.blindtest.sources import Layout, locate
from foveal.tasks.blindtest.squares import Squares
from foveal.tasks.blindtest.subway import Subway
from foveal.tasks.capabilities import BlindGuess, Drawing, Generator, drawing_of
from foveal.tasks.lazy import Numbered
from foveal.tasks.task import Task

#: The seven puzzles in the order of the published tables.
PUZZLES: Final[dict[str, type[Puzzle]]] = {
    "lines": Lines,
    "circles": Circles,
    "letters": Letters,
    "shapes": Shapes,
    "squares": Squares,
    "grids": Grids,
    "subway": Subway,
}


def find_sources(source: str, name: str, layout: Layout) -> list[str]:
    """The sources of one puzzle in a source of several.

    Args:
        source: A folder with a folder for each puzzle, named as in ``PUZZLES`` (``foveal data make blindtest/all`` writes
            one); a folder with folders of published pictures, of any name; or a table of all puzzles.
        name: The puzzle, e.g. ``lines``.
        layout: The puzzle's layout.

    Returns:
        Sources for ``load_rows``; empty where there are no pictures of this puzzle.
    """
    path, _ = locate(source)
    if not path.is_dir():
        return [source]
    folder = path / name
    if any((folder / split).is_dir() for split in SPLITS):
        return [str(folder)]
    folders = sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))
    published = [str(p) for p in folders if any(layout.published.match(f.name) for f in p.iterdir())]
    if published or any((path / other / split).is_dir() for other in PUZZLES for split in SPLITS):
        return published
    return [] if folders and not any(path.rglob("*.parquet")) else [source]


@dataclass
class AllData(PuzzleData):
    """Where the pictures come from, how many of each puzzle, and how the questions are put."""

    source: str = "generate"
    """`generate`; or a folder with a folder of pictures for each puzzle (made by `foveal data make blindtest/all`, or
    published ones, which serve as the test split); or a table of all puzzles, e.g. XAI/vlmsareblind."""
    train: int = 70_000
    """Generated pictures to train on, of all puzzles together."""
    validation: int = 1_400
    """Generated pictures that choose the best checkpoint."""
    test: int = 7_000
    """Generated pictures to measure with."""
    puzzles: list[str] = field(default_factory=lambda: list(PUZZLES))
    """Which puzzles: lines, circles, letters, shapes, squares, grids, subway."""
    shares: dict[str, float] = field(default_factory=dict)
    """How often a puzzle is asked in training relative to the others, 1 by default, e.g. {lines: 2}."""


@dataclass
class AllMake(PuzzleMake):
    """Writes pictures of all seven puzzles, each puzzle in a folder of its own, which data.source takes."""

    num_images: int = 10
    """Pictures for each label of each puzzle."""


@dataclass(frozen=True)
class _Rows:
    """Rows of several puzzles, evenly mixed."""

    parts: Sequence[tuple[str, Sequence[Example]]]
    order: Sequence[tuple[int, int]]

    def __call__(self, index: int) -> Example:
        part, number = self.order[index]
        name, rows = self.parts[part]
        row = rows[number]
        return replace(row, id=f"{name}/{row.id}", fields={**row.fields, "puzzle": name})


class BlindTest(BlindGuess, Drawing, Generator, Task):
    """Any of the seven puzzles. The headline is the mean of the puzzles' accuracies."""

    name = "blindtest/all"
    summary = "All seven puzzles of BlindTest at once; the headline is the mean of their accuracies."
    headline = "mean_accuracy"
    metrics = Metrics((Metric("mean_accuracy", "share", "higher"), Metric("accuracy", "share", "higher")))
    Data = AllData
    Make = AllMake

    def __init__(self, data: AllData) -> None:
        super().__init__(data)
        for key in (*data.puzzles, *data.shares):
            if key not in PUZZLES:
                raise UserError(f"data.puzzles: there is no puzzle {key!r}; there are {', '.join(PUZZLES)}.")
        if not data.puzzles or len(set(data.puzzles)) < len(data.puzzles):
            raise UserError("data.puzzles: name one puzzle or more, each once.")
        for key, share in data.shares.items():
            if not 0 < share <= 100:
                raise UserError(f"data.shares: {key}: {share} is out of range; give more than 0 and at most 100.")
        self.parts = {name: self._part(name, source=data.source) for name in data.puzzles}

    def _part(self, name: str, **changes: Any) -> Puzzle:
        task = PUZZLES[name]
        values = {f.name: getattr(self.data, f.name) for f in fields(PuzzleData)}
        part = task(task.Data(**{**values, **changes}))
        part.max_pixels = self.max_pixels
        return part

    def load(self, split: Split) -> Loaded:
        """The rows of a split, the puzzles evenly mixed.

        Raises:
            UserError: The source lacks a puzzle or is malformed.
        """
        data, loaded = self.data, []
        if data.source == "generate":
            count = getattr(data, split)
            if count == 0:
                raise UserError(f"data.{split}: is 0; give the number of pictures to generate.")
            share = {name: data.shares.get(name, 1.0) if split == "train" else 1.0 for name in data.puzzles}
            for name in data.puzzles:
                rows = max(1, round(count * share[name] / sum(share.values())))
                loaded.append((name, self._part(name, **{split: rows}).load(split)))
            source = f"generated: {len(data.puzzles)} puzzles, " + loaded[0][1].source.removeprefix("generated: ")
        else:
            for name in data.puzzles:
                places = find_sources(data.source, name, PUZZLES[name].layout)
                if not places:
                    raise UserError(
                        f"data.source: {data.source}: holds no pictures of the puzzle {name}; leave it out of "
                        "data.puzzles, or make them with `foveal data make blindtest/all`."
                    )
                loaded += [(name, self._part(name, source=place).load(split)) for place in places]
            source = data.source
        parts = [(name, rows.examples) for name, rows in loaded]
        order = sorted(
            ((part, number) for part, (_, rows) in enumerate(parts) for number in range(len(rows))),
            key=lambda place: ((place[1] + 0.5) / len(parts[place[0]][1]), place[0]),
        )
        refused = tuple(row for _, rows in loaded for row in rows.refused)
        notes = tuple(f"{name}: {note}" for name, rows in loaded for note in rows.notes)
        return Loaded(Numbered(len(order), _Rows(parts, order)), source, refused, notes)

    def prompt(self, example: Example, rng: random.Random | None = None) -> Prompt:
        """The prompt of the row's puzzle."""
        return self.parts[example.fields["puzzle"]].prompt(example, rng)

    def parse(self, reply: str, example: Example | None = None) -> Any:
        """The value as the row's puzzle parses it; None without the row, whose puzzle is unknown."""
        return None if example is None else self.parts[example.fields["puzzle"]].parse(reply)

    def measure(self, examples: Sequence[Example], predictions: Sequence[Prediction]) -> dict[str, float]:
        """Mean accuracy over the puzzles, accuracy of each (``accuracy_lines``), and the share of unparsable replies."""
        by_id = {p.id: p for p in predictions}
        accuracies, unparsable = {}, 0.0
        for name, rows in self._by_puzzle(examples).items():
            metrics = self.parts[name].measure(rows, [by_id[e.id] for e in rows if e.id in by_id])
            accuracies[f"accuracy_{name}"] = metrics["accuracy"]
            unparsable += metrics["unparsable"] * len(rows)
        if not accuracies:
            raise UserError("There are no rows to measure.")
        mean = sum(accuracies.values()) / len(accuracies)
        return {"mean_accuracy": mean, **accuracies, "unparsable": unparsable / len(examples)}

    def chance(self, examples: Sequence[Example]) -> float:
        """The mean of the puzzles' chance."""
        groups = self._by_puzzle(examples)
        return sum(self.parts[name].chance(rows) for name, rows in groups.items()) / max(len(groups), 1)

    def example_of(self, pictures: Sequence[Picture], words: str | None = None) -> Example:
        """A user's picture of the only puzzle that ``data.puzzles`` names.

        Raises:
            UserError: It names several.
        """
        if len(self.parts) != 1:
            raise UserError(
                "data.puzzles: which puzzle are the pictures of? Name it, e.g. --data.puzzles '[lines]'; there are "
                f"{', '.join(self.parts)}."
            )
        name, part = next(iter(self.parts.items()))
        example = part.example_of(pictures, words)
        return replace(example, fields={**example.fields, "puzzle": name})

    def _by_puzzle(self, examples: Sequence[Example]) -> dict[str, list[Example]]:
        groups: dict[str, list[Example]] = {}
        for example in examples:
            groups.setdefault(example.fields["puzzle"], []).append(example)
        return {name: groups[name] for name in self.parts if name in groups}

    def draw(self, example: Example, prediction: Prediction | None = None) -> Image.Image:
        """The drawing of the row's puzzle."""
        return drawing_of(self.parts[example.fields["puzzle"]], example, prediction)

    @classmethod
    def make(cls, options: AllMake) -> Path:
        """Writes a split of each puzzle in a folder of its own.

        Raises:
            UserError: An option is out of range, a split is there, or the disk is full.
        """
        folder = options.check()
        if not options.overwrite:
            for name in PUZZLES:
                if (folder / name / options.split).exists():
                    raise UserError(
                        f"{folder / name / options.split}: exists already; choose another folder or split, or give "
                        "--overwrite true."
                    )
        values = {f.name: getattr(options, f.name) for f in fields(PuzzleMake)}
        for name, task in PUZZLES.items():
            task.make(task.Make(**{**values, "folder": str(folder / name), "push_to_hub": None, "private": False}))
        options.push(folder, [f"{name}/{options.split}" for name in PUZZLES])
        return folder
