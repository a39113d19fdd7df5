"""`foveal tasks`: what can be learned."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from foveal.config.arguments import Parser
from foveal.config.keys import section_parser
from foveal.tasks.capabilities import Generator
from foveal.tasks.registry import all_tasks, find_task


def parser() -> Parser:
    """The command's options."""
    p = Parser(prog="foveal tasks", description="Lists the tasks, or shows the data section of one task's recipes.")
    p.add_argument("task", nargs="?", help="a task's name")
    return p


def run(arguments: Sequence[str], console: Console) -> int:
    """Lists or shows."""
    given = parser().parse_args(list(arguments))
    if given.task:
        task = find_task(given.task)
        text = section_parser(task.Data, task.name, task.summary).format_help()
        print(text.replace("  --", "  --data."), end="")
        return 0
    table = Table("task", "what it is", "metric", "makes pictures")
    good, broken = all_tasks()
    for name, task in good.items():
        table.add_row(name, task.summary, task.headline, "yes" if issubclass(task, Generator) else "")
    console.print(table)
    for reason in broken.values():
        console.print(f"left out: {reason}", markup=False, soft_wrap=True)
    return 0
