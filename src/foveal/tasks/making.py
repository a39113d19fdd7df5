"""Makes a data set with a task's generator, from the words of a command line."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from foveal.config.arguments import section_from
from foveal.config.keys import section_keys
from foveal.tasks.capabilities import Generator
from foveal.tasks.task import Task


def make_data(task: type[Task], arguments: Sequence[str], console: Console) -> None:
    """Makes the data set and says where it is; ``--help`` shows the generator's options and exits.

    Raises:
        UserError: An option is unknown, missing or impossible, or the task makes no data.
    """
    assert issubclass(task, Generator)
    words = [_underscored(word, task.Make) for word in arguments]
    options = section_from(task.Make, words, f"foveal data make {task.name}", task.summary)
    folder = task.make(options)
    console.print(f"Made: {folder}", soft_wrap=True)
    if pushed := getattr(options, "push_to_hub", None):
        console.print(f"On the Hub: {pushed}", soft_wrap=True)


def _underscored(word: str, options: type) -> str:
    """An option that is written with dashes (--push-to-hub), as the keys are (--push_to_hub)."""
    name, equals, value = word.partition("=")
    key = name.removeprefix("--").replace("-", "_")
    return f"--{key}{equals}{value}" if name.startswith("--") and key in section_keys(options) else word
