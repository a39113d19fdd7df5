"""The settings of classification: a recipe's section ``data``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal

from foveal.tasks.classification.balance import Weights
from foveal.tasks.readers.annotations import OnBad

#: What is asked for, behind the question, with ``answer_format: reasoning``.
INSTRUCTIONS: Final = (
    "Write two lines:\nReasoning: [what you see, step by step]\nAnswer: [the name of the class and nothing else]"
)
#: The invented reason of ``reasoning_source: template``.
TEMPLATE: Final = "The picture shows {description}. This is what {class} looks like."


@dataclass
class ClassificationData:
    """Pictures with one label each, wherever they are: folders, tables, archives, the Hub."""

    source: str
    """Class folders (source/<split>/<class>/... or source/<class>/...), a folder that `datasets` saved, a CSV, TSV or
    parquet file or a folder of such, WebDataset tars, or OWNER/NAME[@REVISION] on the Hub."""
    image_column: str = ""
    """Column of a table that holds the pictures, or paths to them; found by type and name by default."""
    picture_folder: str = ""
    """Folder of the pictures that a table names, where they lie elsewhere. Without it no path may lead out of the
    source: a table from others could name any file of this machine."""
    label_column: str = ""
    """Column of a table that holds the labels; found by type and name by default."""
    class_names: list[str] = field(default_factory=list)
    """The names of all classes: the data's own, or, where labels are numbers without names, a name for each from 0 on.
    Their order is that of the answers; by default the data's own order."""
    splits: dict[str, str] = field(default_factory=dict)
    """Which of a table's splits, or which folder of class folders, serves as train, validation or test, e.g.
    {train: few_shot_5}; by name by default."""
    config: str = ""
    """Which of several tables of a source, e.g. a configuration of a data set on the Hub."""
    descriptions: dict[str, str] = field(default_factory=dict)
    """What a class looks like, e.g. {cra: a bowl-shaped depression}; follows the question, a line for each, unless
    question or system has a place for it."""
    descriptions_file: str = ""
    """A YAML or JSON file with the descriptions, in place of them."""
    question: str = "Which of these is shown in the picture: {classes}?"
    """What the model is asked, or @FILE; {classes} becomes the class names, {descriptions} the descriptions."""
    system: str | None = None
    """Instructions in front of the question, or @FILE; {classes} and {descriptions} are filled in as in the question."""
    answer_format: Literal["label", "reasoning"] = "label"
    """label: the answer is the class. reasoning: the model says what it sees, and then `Answer: CLASS`."""
    instructions: str = INSTRUCTIONS
    """With answer_format: reasoning, what follows the question, or @FILE."""
    reasoning_source: Literal["none", "column", "template"] = "none"
    """With answer_format: reasoning, where the reasons to learn from come from. none: only `Answer: CLASS` is learned.
    column: the data's own. template: made of the class's description; such reasons are invented and teach the form only."""
    reasoning_column: str = ""
    """With reasoning_source: column, the column of a table, or json.NAME of the JSON files in tars, that holds them."""
    reasoning_template: str = TEMPLATE
    """With reasoning_source: template, the reason; {class} and {description} are filled in."""
    limit: int = 0
    """Rows of each split, spread evenly over the classes; 0 takes all."""
    validation_share: float = 0.1
    """Share of each class held out of train where the source has no validation split."""
    test_share: float = 0.2
    """Share of each class held out for the test where the source has no splits at all."""
    seed: int = 0
    """Decides which rows are held out, and which are taken with a limit."""
    class_weights: Weights = "none"
    """How much a training row of each class counts in the loss, e.g. {rare: 5} (1 for the others); balanced gives every
    class the same sum: rows / (classes x rows of the class)."""
    sampling: Literal["natural", "balanced"] = "natural"
    """natural: an epoch has each training row once. balanced: as many rows, but as many of each class as of any other."""
    on_bad_image: Literal["refuse", "skip"] = "refuse"
    """At a picture that cannot be opened: refuse stops before the training, skip leaves it out and reports it."""
    on_bad_label: OnBad = "refuse"
    """At a row of a table without a label (empty, NaN, null, None, n/a): refuse stops and counts them, skip leaves them
    out and reports them. A class of such a name is one where class_names lists it."""
