"""The counting task: point at the next one that is not marked yet, until done."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import ClassVar, Literal

from PIL import Image

from foveal.config.checking import check_ranges
from foveal.errors import UserError
from foveal.examples import Example, Loaded, Split
from foveal.images import Picture
from foveal.prompts import Prompt
from foveal.results import Prediction
from foveal.tasks.capabilities import BlindGuess, Drawing, Episode, Episodes, Films, OwnModels
from foveal.tasks.counting import film, pointing
from foveal.tasks.counting.episodes import AllAtOnce, Count, StepByStep
from foveal.tasks.counting.generate import SceneOptions, Scenes
from foveal.tasks.counting.marking import PICTURE_SHARE, Relative, Style, mark, varied_mark
from foveal.tasks.counting.metrics import METRICS, measure_counts
from foveal.tasks.counting.objects import Point, Query, Thing, Twins
from foveal.tasks.counting.ordering import Order, order
from foveal.tasks.counting.pointing import DONE, Form
from foveal.tasks.counting.sources import is_one_file, read_source
from foveal.tasks.lazy import Made
from foveal.tasks.readers.annotations import OnBad
from foveal.tasks.readers.checking import check_pictures
from foveal.tasks.task import Task

Strategy = Literal["sequential", "all_points", "number"]


@dataclass
class MarkingData:
    """How counted objects are marked."""

    style: Style = "disc"
    """disc, number, box or mask."""
    alpha: float = 0.5
    """How opaque marks are, above 0 and at most 1."""
    color: str = "contrast"
    """A CSS colour, or contrast: for each mark the one that stands out most from what is under it."""
    size: float = 0.8
    """Diameter of a disc in extents of its object; of the 0.06 of the picture that stand for one without a box."""
    jitter: float = 0.0
    """In training, marks are moved by up to this share of their object's extent in x and in y, as a model's own points are
    off when it counts by itself."""
    relative: Relative = "image"
    """object: marks follow the objects' boxes, which only annotated pictures have; image: all marks have one size, as
    when the model counts by itself."""
    vary: bool = False
    """In training, the marks of each row have an alpha from 0.2 to 0.9, a size within a quarter of `size`, and any colour that
    stands out from what is under them, so that a model learns that a mark is a mark. Outside of training they are as this
    section says."""


@dataclass
class CounterData:
    """The network of model.id: point-counter."""

    tower: str = "builtin"
    """Frozen vision tower and text encoder: builtin, builtin-counting (which has learned to point), a model trained from
    them, or a CLIP model such as openai/clip-vit-base-patch32."""
    hidden: int = 256
    """Width of the trainable network: 128, 256 (1.3M parameters) or 512."""
    heads: int = 4
    """Attention heads."""
    dropout: float = 0.1
    """In the feed-forward layer."""
    heat_weight: float = 1.0
    """Weight of the heat loss: in which patches an object that is not marked has its centre."""
    offset_weight: float = 1.0
    """Weight of the offset loss: where in its patch the centre is."""
    consistency_weight: float = 0.1
    """Weight of the consistency loss: the same heat map under a re-encoding of the picture; 0 leaves it out."""


@dataclass
class CountingData:
    """Pictures, categories, questions and answers."""

    source: str = "generate"
    """`generate` draws scenes of shapes; or a folder: OmniCount-191 or any of its domains, a COCO detection folder or
    .json file, FSC-147."""
    categories: list[str] = field(default_factory=list)
    """Domains of OmniCount, e.g. [Supermarket, Fruits, Urban]; all by default. With pictures of your own (`foveal
    predict`), the one thing that is counted."""
    absent: int = 0
    """For each picture, so many more questions about classes that do not occur in it (COCO and OmniCount)."""
    validation_share: float = 0.1
    """Share of the training pictures that is held out where there is no validation split; of a COCO file, the share
    for validation and that for testing."""
    pictures: str = ""
    """Folder of a COCO file's pictures. By default they are looked for beside the file, in `images` and in the folder that
    its name ends in (`val2017` of `instances_val2017.json`)."""
    on_bad: OnBad = "refuse"
    """At annotations and pictures that cannot be used: refuse stops with a sentence, skip leaves them out and counts them."""
    twins: Twins = "once"
    """How often an object is counted whose box or point is there several times, exactly: once; or all, each time, as in
    published figures."""
    train: int = 4_000
    """Generated scenes to train on."""
    validation: int = 200
    """Generated scenes that choose the best checkpoint."""
    test: int = 500
    """Generated scenes to measure with."""
    min_objects: int = 0
    """Fewest objects in a generated scene."""
    max_objects: int = 10
    """Most objects in a generated training scene, up to 60."""
    test_max_objects: int | None = None
    """Most objects in a generated test scene; as in training by default. More asks whether counting goes on."""
    image_size: int = 168
    """Side of generated scenes in pixels."""
    distractors: int = 4
    """Most objects of other kinds in a generated scene."""
    overlap: float = 0.25
    """Largest share of a generated object that others cover."""
    same_colour_share: float = 0.0
    """Share of the other kinds in generated scenes that have the colour of what is counted and another shape. The rest are
    like it in shape, in colour or in nothing."""
    seed: int = 0
    """Seed of generated scenes, of held-out pictures and of absent classes."""
    strategy: Strategy = "sequential"
    """sequential: the next point of a marked picture, until done; all_points: all points in one reply; number: only
    the number."""
    order: Order = "reading_order"
    """In which order objects are pointed at; random, a control, is another one in each epoch."""
    point_format: Form = "bins"
    """cells: letters of 26 columns and rows, `k,c`; bins: two digits each, `63 44`; plain: percent, `63.5, 44.5`;
    percent: Molmo's tag."""
    wording: Literal["sentence", "short"] = "sentence"
    """How it is asked: in a sentence, or in a few words for a small model."""
    done_share: float = 0.0
    """Least share of training rows whose answer is "done". Drawing the number of marks uniformly from 0 to N gives
    1 / (N + 1), which is rare in crowded pictures."""
    all_points_share: float = 0.0
    """In training with the strategy sequential, the share of rows that ask for all points of the unmarked picture in one
    reply instead, which teaches all objects in one pass. Counts are measured in sequence all the same."""
    marking: MarkingData = field(default_factory=MarkingData)
    """How counted objects are marked."""
    max_points: int = 100
    """A count ends after so many points."""
    repeat_radius: float = 0.02
    """A point nearer than this to one before is a repeat, in diagonals of the picture."""
    patience: int = 2
    """A count is stuck after so many repeats in a row."""
    match_radius: float = 0.5
    """A point is right within so many extents of an object (0.06 of the picture where it has no box)."""
    counter: CounterData = field(default_factory=CounterData)
    """The network of model.id: point-counter."""


@dataclass(frozen=True)
class Marked(Prompt):
    """A picture with marks on some of its objects.

    Attributes:
        left: The objects that are not marked, in the recipe's order.
    """

    left: tuple[Thing, ...] = ()


class Counting(BlindGuess, Episodes, Drawing, Films, OwnModels, Task):
    """How many are there?"""

    name = "counting"
    summary = "Count by pointing: the next object that is not marked yet, until done."
    metrics = METRICS
    headline = "mae"
    Data = CountingData
    models: ClassVar[Mapping[str, str]] = {"point-counter": "foveal.tasks.counting.specialist:Counter"}

    def __init__(self, data: CountingData) -> None:
        super().__init__(data)
        check_ranges(
            data, "data.", done_share=(0, 0.9), max_points=(1, 1000), repeat_radius=(0, 0.5), patience=(1, 100),
            match_radius=(0.01, 10), validation_share=(0.01, 0.9), absent=(0, 100), all_points_share=(0, 1),
            same_colour_share=(0, 1),
        )  # fmt: skip
        check_ranges(data.marking, "data.marking.", jitter=(0, 1))
        if data.source == "generate":
            for key, split in (("max_objects", "train"), ("test_max_objects", "test")):
                try:
                    self._options(split).check()
                except UserError as error:
                    raise UserError(f"data.{str(error).replace('max_objects', key, 1)}") from None
        self._marks = partial(
            mark, style=data.marking.style, alpha=data.marking.alpha, color=data.marking.color,
            size=data.marking.size, relative=data.marking.relative,
        )  # fmt: skip
        blank = Image.new("RGB", (8, 8))
        for key in ("alpha", "color", "size"):
            try:
                mark(blank, [], **{key: getattr(data.marking, key)})
            except UserError as error:
                raise UserError(f"data.marking.{key}: {error}") from None
        if any(not name.strip() for name in data.categories):
            raise UserError("data.categories: holds an empty name; remove it.")

    def _options(self, split: str) -> SceneOptions:
        data = self.data
        most = data.max_objects if split != "test" or data.test_max_objects is None else data.test_max_objects
        return SceneOptions(
            data.min_objects, most, data.image_size, data.distractors, data.overlap, data.same_colour_share
        )

    # ---------------------------------------------------------------- data

    def load(self, split: Split) -> Loaded:
        """The rows of a split: one for each picture and category.

        Raises:
            UserError: The source or its split is missing or malformed, or a picture cannot be used.
        """
        data = self.data
        if data.source == "generate":
            count = getattr(data, split)
            if count < 1:
                raise UserError(f"data.{split}: is {count}; give the number of scenes to generate.")
            options = self._options(split)
            queries: Sequence[Query] = Scenes(count, split, data.seed, options)
            place = (
                f"generated: scenes of {options.min_objects} to {options.max_objects} objects, {data.image_size} pixels, "
                f"seed {data.seed}, split {split}"
            )
            return Loaded(Made(queries, self.example), place)
        return self._read(split, data.validation_share)

    def load_other(self, split: Split) -> Loaded:
        """The rows of a source that the model has not learned from: nothing is held out, and a COCO file is whole.

        Raises:
            UserError: See ``load``.
        """
        if self.data.source == "generate":
            return self.load(split)
        return replace(self._read(split, 0), whole=is_one_file(Path(self.data.source).expanduser()))

    def _read(self, split: Split, validation_share: float) -> Loaded:
        data = self.data
        source = read_source(
            Path(data.source).expanduser(), split, categories=data.categories, absent=data.absent, seed=data.seed,
            validation_share=validation_share, on_bad=data.on_bad, twins=data.twins, pictures=data.pictures,
            max_pixels=self.max_pixels,
        )  # fmt: skip
        checked = check_pictures(
            source.queries, lambda query: (query.picture,), max_pixels=self.max_pixels, on_bad=data.on_bad
        )
        refused, notes = (*source.skipped, *checked.refused), (*source.notes, *checked.notes)
        return Loaded(Made(checked.rows, self.example), source.place, refused, notes)

    def example(self, query: Query) -> Example:
        """A query's row: the truth is the count; ``things`` are in the recipe's order."""
        chosen = order(query.things, self.data.order, query.size, query.id)
        things = tuple(query.things[i] for i in chosen)
        fields = {"category": query.category, "domain": query.domain, "things": things, "size": query.size}
        return Example(query.id, (query.picture,), len(things), {**query.extra, **fields})

    def example_of(self, pictures: Sequence[Picture], words: str | None = None) -> Example:
        """A user's picture; ``data.categories`` names what is counted in it."""
        named = self.data.categories
        if len(named) != 1:
            raise UserError(
                "data.categories: what is counted in the pictures? Name it, e.g. --data.categories '[apples]'."
            )
        if self.data.source != "generate" and (Path(self.data.source).expanduser() / named[0]).is_dir():
            raise UserError(
                f"data.categories: {named[0]} is a domain; name what is counted in the pictures, e.g. --data.categories "
                "'[apples]'."
            )
        return Example(pictures[0].name, tuple(pictures), None, {"category": named[0]})

    # ---------------------------------------------------------------- questions

    def question(self, category: str, strategy: Strategy | None = None) -> str:
        """What is asked, without the picture; by default with the recipe's strategy."""
        short, strategy = self.data.wording == "short", strategy or self.data.strategy
        if strategy == "number":
            return f"count {category}" if short else f"How many {category} are there? Answer with the number."
        if strategy == "all_points":
            return f"points {category}" if short else f"Point to all {category}, or say done if there are none."
        if short:
            return f"next {category}"
        return f"Point to the next of the {category} that is not marked yet, or say done if all are marked."

    def prompt(self, example: Example, rng: random.Random | None = None) -> Prompt:
        """The picture with the first k objects marked, and the next one, or done, as the answer.

        k is drawn uniformly from 0 to N (``data.done_share`` lifts N); outside of training it follows from the row. In
        training the order ``random`` is drawn anew, too, and ``data.all_points_share`` of the rows ask for all points.
        """
        data, fields = self.data, example.fields
        picture, strategy = example.images[0], data.strategy
        if strategy == "sequential" and rng is not None and data.all_points_share > 0:
            strategy = "all_points" if rng.random() < data.all_points_share else strategy
        user = self.question(fields["category"], strategy)
        if example.truth is None:
            return Prompt((picture,), user)
        if strategy == "number":
            return Prompt((picture,), user, answer=str(example.truth))
        things: Sequence[Thing] = fields["things"]
        size: tuple[int, int] = fields["size"]
        if data.order == "random" and rng is not None:
            things = rng.sample(things, len(things))
        if strategy == "all_points":
            points = [t.point for t in things]
            answer = pointing.write_points(points, size, data.point_format, fields["category"])
            return Prompt((picture,), user, answer=answer)
        marked = self.prefix(len(things), rng or random.Random(f"prefix {example.id}"))
        answer = (
            DONE if marked == len(things) else pointing.write_point(
                things[marked].point, size, data.point_format, fields["category"]
            )
        )  # fmt: skip
        shown = things[:marked] if rng is None else [self._jittered(t, size, rng) for t in things[:marked]]
        marks = self._marks if rng is None or not data.marking.vary else self._varied_marks(str(rng.random()))
        return Marked((picture.edited(partial(marks, things=shown)),), user, answer=answer, left=tuple(things[marked:]))

    def _varied_marks(self, seed: str) -> partial[Image.Image]:
        """Draws marks whose looks the seed decides."""
        marking = self.data.marking
        return partial(varied_mark, style=marking.style, size=marking.size, relative=marking.relative, seed=seed)

    def _jittered(self, thing: Thing, size: tuple[int, int], rng: random.Random) -> Thing:
        """The object as if it had been pointed at a little off its middle, inside the picture."""
        most = self.data.marking.jitter * (thing.extent or PICTURE_SHARE * math.sqrt(size[0] * size[1]))
        if most == 0:
            return thing
        x, y = (
            min(max(0.0, at + rng.uniform(-most, most)), float(side))
            for at, side in zip(thing.point, size, strict=True)
        )
        return replace(thing, point=(x, y))

    def prefix(self, count: int, rng: random.Random) -> int:
        """How many of ``count`` objects are marked already in a training row."""
        # Done is drawn outright with probability p, and else with 1 / (N + 1): p + (1 - p) / (N + 1) = done_share.
        if count and rng.random() < (self.data.done_share * (count + 1) - 1) / count:
            return count
        return rng.randint(0, count)

    # ---------------------------------------------------------------- answers

    def count(self, example: Example) -> Count:
        """An empty count of the example's picture."""
        data, picture = self.data, example.images[0].open()
        radius = data.repeat_radius * math.hypot(*picture.size)
        return Count(picture, self._marks, data.max_points, radius, data.patience)

    def episode(self, example: Example) -> Episode | None:
        """A count in steps with the strategy sequential, in one with all_points; number has none."""
        if self.data.strategy == "number":
            return None
        question, form = self.question(example.fields["category"]), self.data.point_format
        if self.data.strategy == "all_points":
            return AllAtOnce(example, question, form)
        return StepByStep(example, self.count(example), question, form)

    def parse(self, reply: str, example: Example | None = None) -> int | None:
        """The count in a reply of the strategies number and all_points: always the number of points, never a number
        that is written beside them."""
        if self.data.strategy == "number":
            return pointing.read_number(reply)
        points = pointing.read_points(reply, (100, 100), self.data.point_format)
        return None if points is None else len(points)

    def measure(self, examples: Sequence[Example], predictions: Sequence[Prediction]) -> dict[str, float]:
        """Counting metrics, and how well the points lie where there are any; see ``measure_counts``."""
        return measure_counts(examples, predictions, self.data.match_radius)

    def chance(self, examples: Sequence[Example]) -> float:
        """MAE of always answering the median count: no other number has a lower one."""
        truths = [e.truth for e in examples]
        middle = statistics.median_low(truths) if truths else 0
        return float(sum(abs(t - middle) for t in truths) / max(1, len(truths)))

    def draw(self, example: Example, prediction: Prediction | None = None) -> Image.Image:
        """The picture with the counted points numbered."""
        picture = example.images[0].open()
        points = points_of(prediction) if prediction is not None else []
        return mark(picture, [Thing(point) for point in points], "number", 0.9, relative="image", size=0.7)

    def frames(self, example: Example, prediction: Prediction) -> list[Image.Image]:
        """The count as a film: a frame for each point, and the end."""
        extra, marking = prediction.extra, self.data.marking
        if "points" not in extra:
            return []
        things = [Thing(point) for point in points_of(prediction)]
        confidences = list(extra.get("step_confidence", ()))
        if extra.get("end") == "limit":
            confidences.append(None)  # There was no reply after the last point.
        ends = {"limit": "stopped at the limit", "stuck": "stuck: points repeat", "unreadable": "the reply is no point"}
        return film.frames(
            example.images[0].open(), things, example.fields["category"], style=marking.style, alpha=marking.alpha,
            color=marking.color, size=marking.size, relative="image", ending=ends.get(extra.get("end", ""), "done"),
            # After a repeat, steps are no longer the points' own.
            confidences=confidences if len(confidences) == len(things) + 1 else None,
        )  # fmt: skip


def points_of(prediction: Prediction) -> list[Point]:
    """The points of a prediction, in pixels of the picture."""
    return [(float(x), float(y)) for x, y in prediction.extra.get("points", ())]
