"""BlindTest's third puzzle: which letter of a word is circled?

* ``paper``: the published pictures (Rahmanzadehgervi et al. 2024, arXiv 2407.06581). One of three words in Helvetica or
  Open Sans at 96 pixels to the em, 25 to 200 pixels of padding at either side, all scaled to the picture's width; a red
  ellipse around one letter's box, 1.4 times as wide as the letter's advance and as high as its ink, 4 to 6 points wide
  in a figure of 10 by 2 inches. Fonts that everyone has are fitted to those two; see ``typesetting``.
* ``varied``: for training. Half of the pictures look like the paper's with parameters in between, the others vary in
  font, size, place, colours, ground, ellipse and sharpness. In a quarter of either the word is another one.
"""

from __future__ import annotations

import random
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

from foveal.tasks.blindtest.drawing.circled import RED, UNITS, CircledWord, Look
from foveal.tasks.blindtest.drawing.colours import BLACK, WHITE, gray
from foveal.tasks.blindtest.drawing.filters import Filter
from foveal.tasks.blindtest.drawing.typesetting import EM, FACES, HELVETICA, OPEN_SANS, set_word
from foveal.tasks.blindtest.generate import PuzzleScene, Sampler
from foveal.tasks.blindtest.puzzle import Puzzle, Question
from foveal.tasks.blindtest.replies import without
from foveal.tasks.blindtest.sources import Label, Layout

PUBLISHED_WORDS = ("Acknowledgement", "Subdermatoglyphic", "tHyUiKaRbNqWeOpXcZvM")
LABELS = tuple((word, index) for word in PUBLISHED_WORDS for index in range(len(word)))
VALUES = tuple(sorted({word[index].lower() for word, index in LABELS}))
#: The published parameters: blank pixels at either side of the word at 96 pixels to the em, the ellipse's line in
#: points, and how much larger than the letter it is.
PADDINGS, THICKNESSES, ROOM = (25, 50, 100, 200), (4, 5, 6), 1.4
#: matplotlib's axes in a figure of 10 by 2 inches, in points, and the axes' height in pixels of the word.
_AXES, _AXES_HEIGHT = (0.775 * 10 * 72, 0.77 * 2 * 72), 200
#: Side of the published pictures in pixels.
_SIDE = 512
#: How many pixels a picture's side may be at 96 to the em, or the letters would be too small.
_LONGEST = 1900
#: Long words for training, none of them published.
_WORDS = """
    absolutely accidentally adventurous afternoon agriculture aluminium ambassador apartment architecture astronomy
    background basketball bibliography biodiversity breakfast brilliant butterfly calculation candlelight celebration
    championship chandelier characteristic chlorophyll chocolate chronological circumference clockwork collaboration
    comfortable commonwealth communication concentration constellation consequently cornerstone crossroads crystallize
    daydreaming demonstration development dictionary disappointment discovery earthquake efficiency elephant electricity
    encyclopedia enthusiasm environment equilibrium everywhere exaggeration exhibition experiment extraordinary
    farmhouse firewood flashlight footprint forgiveness framework friendship fundamental geography government
    grandmother gravitational handkerchief harmonious headquarters hieroglyphics horizontal hypothesis
    identification illumination imagination independence infrastructure investigation jellyfish journalism
    kaleidoscope keyboard kilometre kindergarten knowledge laboratory landscape lighthouse magnificent manufacturer
    mathematics measurement microscope misunderstanding motorcycle mountainous neighbourhood nevertheless
    notwithstanding observatory onomatopoeia opportunity orchestra parallelogram pharmaceutical photographer physiology playground
    psychology quarterly questionnaire quicksilver recognition refrigerator responsibility rhinoceros saxophone
    schoolyard semiconductor significance skyscraper southwestern statistics strawberry subcutaneous synchronization
    technology telescope temperature thunderstorm transparent typewriter unbelievable underground university vegetable
    vocabulary volcanoes watermelon weatherproof wheelbarrow wholehearted windowsill workshop xylophone yesterday
    zoological
"""
OTHER_WORDS = tuple(_WORDS.split())


@dataclass(frozen=True)
class Scene(CircledWord, PuzzleScene):
    """A word and the ellipse around one of its letters.

    Attributes:
        index: Which letter is circled, from 0.
    """

    index: int

    @property
    def label(self) -> tuple[str, int]:
        """The word and the place of the letter in it."""
        return self.word, self.index

    @property
    def truths(self) -> tuple[str, str]:
        """The letter, lower-case, for both questions."""
        letter = self.word[self.index].lower()
        return letter, letter

    @property
    def geometry(self) -> tuple[int, ...]:
        """The word's hash, the place of the letter, the font and all lengths."""
        face = FACES.index(self.look.face)
        word = zlib.crc32(self.word.encode()) >> 1
        return word, self.index, face, *self.pen, self.em, self.stretch, *self.centre, *self.radii, self.width

    @property
    def cells(self) -> dict[str, str]:
        """The word, and the lengths in sides of the picture."""
        names = ("text_x", "baseline", "em", "centre_x", "centre_y", "radius_x", "radius_y", "width")
        lengths = (*self.pen, self.em, *self.centre, *self.radii, self.width)
        sides = {name: f"{length / UNITS:.4f}" for name, length in zip(names, lengths, strict=True)}
        return {"word": self.word, "index": str(self.index), **sides}


def place_word(
    word: str, index: int, look: Look, padding: float, thickness: float, scale: float = 1, stretch: int = 100
) -> Scene:
    """A scene as the published program sets it, all of it in proportion.

    Args:
        word: The word.
        index: Which letter is circled.
        look: Its colours and the like.
        padding: Blank pixels at either side, at 96 to the em.
        thickness: Width of the ellipse's line in points, in a figure of 10 inches.
        scale: Factor on that.
        stretch: How much wider the font is drawn, in percent.
    """
    text = set_word(word, look.face)
    across = stretch / 100
    whole = text.length * across + 2 * padding
    k = UNITS / whole
    # The axes keep the word's proportions, so a short word does not fill their width.
    points = min(_AXES[0], _AXES[1] * whole / _AXES_HEIGHT)
    # The program puts the axes into a picture of 512 pixels, on a whole one.
    height = int(_SIDE * _AXES_HEIGHT / whole)
    middle = ((_SIDE - height) // 2 + height / 2) / _SIDE * UNITS
    baseline = middle + (text.tallest - 1) / 2 * k
    box = text.boxes[index]
    return Scene(
        word,
        (round(padding * k), round(baseline)),
        round(EM * k),
        stretch,
        (
            round((padding + (box.left + box.right) / 2 * across) * k),
            round(baseline + (box.top + box.bottom) / 2 * k),
        ),
        (round(ROOM * box.advance * across / 2 * k), round(ROOM * (box.bottom - box.top) / 2 * k)),
        max(1, round(thickness * scale / points * UNITS)),
        look,
        index,
    )


def _paper(rng: random.Random, label: tuple[str, int], _: int, scale: float) -> Sampler:
    def sample() -> Scene:
        look = Look(rng.choice((HELVETICA, OPEN_SANS)))
        return place_word(*label, look, rng.choice(PADDINGS), rng.choice(THICKNESSES), scale)

    return sample


def _other(rng: random.Random) -> tuple[str, int]:
    """A word that is not published, and the index of one of its letters that is a published answer."""
    if rng.random() < 0.5:
        word = rng.choice(OTHER_WORDS)
        case = rng.random()
        word = word.capitalize() if case < 0.5 else word if case < 0.85 else word.upper()
        return word, rng.choice([i for i, letter in enumerate(word) if letter.lower() in VALUES])
    letters = [rng.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(rng.randint(8, 20))]
    index = rng.randrange(len(letters))
    letters[index] = rng.choice(VALUES)
    case, first = rng.random(), rng.random() < 0.5
    if case < 0.5:
        letters = [c.upper() if (i + first) % 2 else c for i, c in enumerate(letters)]
    elif case < 0.75:
        letters[0] = letters[0].upper()
    return "".join(letters), index


def _varied(rng: random.Random, label: tuple[str, int], _: int, scale: float) -> Sampler:
    return partial(_varied_scene, rng, label, scale)


def _varied_scene(rng: random.Random, label: tuple[str, int], scale: float) -> Scene | None:
    word, index = _other(rng) if rng.random() < 0.25 else label
    kernel: Filter = rng.choice(("box", "bilinear", "bicubic"))
    if rng.random() < 0.5:
        face = rng.choice((HELVETICA, OPEN_SANS) if rng.random() < 0.75 else FACES)
        # Words of other lengths are not to be larger than published ones; small paddings are as frequent as there.
        least = max(18, 400 - set_word(word, face).length / 2)
        scene = place_word(
            word,
            index,
            Look(face, kernel=kernel, blur=rng.choice((0, 0, 0, 0, 25))),
            least + 210 * rng.random() ** 2,
            rng.uniform(3.6, 6.4),
            scale,
            rng.randint(96, 104),
        )
        return _moved(scene, rng.randint(-60, 60), rng.randint(-150, 150), rng, 0.04)
    faint = rng.randint(0, 70)  # One number for two channels, or a dark red would be brown.
    look = Look(
        rng.choice(FACES),
        BLACK if rng.random() < 0.4 else gray(rng, 0, 90, 8),
        RED if rng.random() < 0.4 else (rng.randint(180, 255), faint, faint),
        WHITE if rng.random() < 0.5 else gray(rng, 222, 255, 8),
        kernel,
        rng.choice((0, 0, 0, 25, 35)),
    )
    stretch = rng.randint(85, 115)
    length = set_word(word, look.face).length * stretch / 100
    # From the largest that fits down to half of that, but no smaller than published letters.
    least = max(length * 1.06 + 12, 760)
    if least > _LONGEST:
        return None
    whole = rng.uniform(least, max(least, min(1.6 * least, 1600)))
    scene = place_word(word, index, look, (whole - length) / 2, rng.uniform(3.2, 7.5), scale, stretch)
    aside = max(0, round((whole - length) / 2 / whole * UNITS) - 100)
    return _moved(scene, rng.randint(-aside, aside), rng.randint(-3200, 3200), rng, 0.1)


def _moved(scene: Scene, across: int, down: int, rng: random.Random, jitter: float) -> Scene:
    """The scene shifted, its ellipse slightly moved and resized."""
    (x, y), (a, b) = scene.centre, scene.radii
    wider, higher = rng.uniform(1 - jitter, 1 + jitter), rng.uniform(1 - jitter, 1 + jitter)
    x += across + round(a * rng.uniform(-jitter, jitter))
    y += down + round(b * rng.uniform(-jitter, jitter))
    pen = scene.pen[0] + across, scene.pen[1] + down
    return replace(scene, pen=pen, centre=(x, y), radii=(round(a * wider), round(b * higher)))


def read_label(text: str) -> str:
    """The truth in a data set's label, lower-case.

    Raises:
        ValueError: It is no single letter of the alphabet.
    """
    if not re.fullmatch("[A-Za-z]", text.strip()):
        raise ValueError(f"the label is {text!r}, not one of the letters a to z")
    return text.strip().lower()


def _published(match: re.Match[str], cells: Mapping[str, str] | None) -> list[Label]:
    if cells is None:
        raise ValueError(
            "its label is only in the table circled_letter.csv beside the folder, which is missing or does not list it"
        )
    letter = read_label(cells["letter"])
    word, index = cells["word"], cells["letter_index"]
    if not index.isdecimal() or int(index) >= len(word) or word[int(index)].lower() != letter:
        raise ValueError(f"letter is {cells['letter']}, but that is not the letter at place {index} (from 0) of {word}")
    return [Label((letter, letter))]


_QUOTES = "'\"‘’“”`*_"
#: A letter in quotes or in Markdown's bold or italic.
_QUOTED = re.compile(rf"(?<![A-Za-z])(not +)?[{_QUOTES}]+ ?([A-Za-z])[.,]? ?[{_QUOTES}]+(?![A-Za-z])")
_BRACES = re.compile(r"\{\s*['\"]?([A-Za-z])['\"]?\s*\}")
_LONE = re.compile(r"[^A-Za-z0-9]*([A-Za-z])[^A-Za-z0-9]*")
#: "is s." and the like: what follows must end the clause, or it would read the article "a".
_END = r"(?=\s*(?:[.,;:!?)]|$))"
_STATED = re.compile(
    rf"(?:\b(?:is|was|be|being|answer|circled|highlighted)\b|:|=)\s*(?:\b(?:the|an?)\s+)?"
    rf"(?:\b(?:lower-?case|upper-?case|capital|small)\s+)?(?:\b(?:letter|character)\s+)?([A-Za-z]){_END}",
    re.IGNORECASE,
)
#: "the letter s": a verb or a preposition may follow it, but "the letter I see" is no answer.
_NAMED = re.compile(
    rf"\b(?:letter|character|(?:lower|upper)-?case|capital)\s*:?\s+(?:([b-hj-z])(?![\w'’-])"
    rf"|(a)(?=\s+(?:is|was|has|in|of|at|from|that|which)\b)|(i)(?=\s+(?:is|has)\b)|([ai]){_END})",
    re.IGNORECASE,
)
_SUBJECT = re.compile(r"^\W*(?:([A-HJ-Za-hj-z])\s+(?:is|was)|([Ii])\s+is)\b")


def read_letter(reply: str, prompts: Sequence[str] = ()) -> str | None:
    """The one letter in a reply, lower-case, or None.

    The last letter in braces counts. Without braces, letters in quotes or bold, letters named as such ("the letter s")
    and those that end a statement ("... is s.") must all be the same. The article "a" and the pronoun "I" are ignored.

    Args:
        reply: The model's reply.
        prompts: Questions that the reply may repeat.
    """
    reply = without(reply, prompts).strip()
    if in_braces := _BRACES.findall(reply):
        return str(in_braces[-1]).lower()
    if lone := _LONE.fullmatch(reply):
        return lone[1].lower()
    letters = {letter.lower() for refused, letter in _QUOTED.findall(reply) if not refused}
    plain = re.sub(rf"[{_QUOTES}]+(?=[A-Za-z]\b)|(?<=\b[A-Za-z])[{_QUOTES}]+(?![A-Za-z])", "", reply)
    for pattern in (_STATED, _NAMED, _SUBJECT):
        letters |= {next(filter(None, match.groups())).lower() for match in pattern.finditer(plain)}
    return letters.pop() if len(letters) == 1 else None


class Letters(Puzzle):
    """Which letter of the word is circled?"""

    name = "blindtest/letters"
    title = "Circled letter"
    summary = "Name the letter of a word that is circled in red (BlindTest's circled letter)."
    first = Question("Which letter is being circled?", "letter")
    second = Question("Which character is being highlighted with a red oval?", "letter")
    labels = LABELS
    styles: ClassVar = {"paper": _paper, "varied": _varied}
    shared = frozenset({"paper"})
    values = VALUES
    read = staticmethod(read_letter)
    layout = Layout(
        read_label,
        re.compile(r"text_image_[0-9a-fA-F-]{36}\.png$"),
        _published,
        columns=("word", "letter_index", "letter"),
        hub_tasks=("Circled Letter",),
    )
    card = """
A word with a red ellipse around one of its letters. The label is the letter, lower-case.

Columns of `metadata.csv`: file_name; label; the word; the letter's index in it, from 0; the beginning of the word on
its baseline (text_x, baseline) and the font's size (em); the ellipse's centre (centre_x, centre_y), its radii to the
middle of its line (radius_x, radius_y) and the line's width. Lengths are in sides of the picture, y downwards.
"""
