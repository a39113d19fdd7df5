"""The `foveal` command: finds the subcommand, and turns errors that a user can cause into a sentence and exit code 2."""

from __future__ import annotations

import argparse
import difflib
import importlib
import io
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.text import Text

from foveal import __version__, plugins
from foveal.errors import UserError
from foveal.quiet import quiet
from foveal.terminal import Terminal, visible

#: Command -> (module, one line of help). Modules are imported when they are called, so that `foveal --help` is instant.
COMMANDS: dict[str, tuple[str, str]] = {
    "quickstart": (
        "quickstart",
        "make pictures, train the built-in model on them, measure and show: the whole job in minutes",
    ),
    "train": ("train", "train a model by a recipe, measure it and write a run folder with a report"),
    "evaluate": ("evaluate", "measure a run, or a recipe's model as it is"),
    "predict": ("predict", "ask a run about pictures of your own"),
    "benchmark": ("benchmark", "run a published benchmark, or measure what a model costs"),
    "data": ("data", "make a data set, or look at one: data make, data inspect"),
    "tasks": ("tasks", "list the tasks, or show what one task's recipe can say"),
    "models": ("models", "list the models that are known to work, or show one model's components"),
    "doctor": ("doctor", "check the machine, the data, the model and one step of a recipe, with remedies"),
    "completion": ("completion", "print a completion script for bash, zsh or tcsh"),
}


def commands() -> dict[str, str]:
    """Command -> one line of help: those here, and behind `predict` those that tasks bring."""
    lines: dict[str, str] = {}
    for name, (_, text) in COMMANDS.items():
        lines[name] = text
        if name == "predict":
            own = [n for n in plugins.names("command") if "." not in n and n not in COMMANDS]
            lines |= {n: plugins.summary("command", n) for n in own}
    return lines


def find_command(name: str) -> Any:
    """The module of a command, with `parser` and `run`.

    Raises:
        UserError: A registered command cannot be imported or run.
    """
    if name in COMMANDS:
        return importlib.import_module(f"foveal.cli.{COMMANDS[name][0]}")
    return plugins.find_command(name)


def parser(known: Mapping[str, str]) -> argparse.ArgumentParser:
    """The top of the command line.

    Args:
        known: See ``commands``.
    """
    top = argparse.ArgumentParser(
        prog="foveal", description="Foveal teaches vision-language models to see detail.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="commands:\n" + "\n".join(f"  {name:<12}{text}" for name, text in known.items())
        + "\n\n`foveal COMMAND --help` tells more.",
    )  # fmt: skip
    top.add_argument("-v", "-V", "--version", action="version", version=f"foveal {__version__}")
    top.add_argument("command", choices=list(known), metavar="COMMAND", help="see below")
    top.add_argument("arguments", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command.

    Returns:
        The exit code: 0 when all went well, 2 for an error that the user can put right, 130 after Ctrl-C.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):  # names of files that are not UTF-8
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        return _run(list(sys.argv[1:] if arguments is None else arguments))
    except UserError as error:
        return _fail(str(error))
    except KeyboardInterrupt as error:
        return _fail("; ".join(["interrupted", *filter(None, map(str, error.args))]), 130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        # What no room foresaw of a disk's or a system's refusals: a name too long, too many open files, a bad sector.
        if error.strerror is None:
            raise
        return _fail(f"{error.filename or 'The system'}: {error.strerror}; correct the path or what stands in its way.")


def _run(words: Sequence[str]) -> int:
    known = commands()
    top = parser(known)
    if not words:
        top.print_help()
        return 0
    options = [option for action in top._actions for option in action.option_strings]
    if words[0] not in (*known, *options):
        near = difflib.get_close_matches(words[0], [*known, *options], n=1)
        is_option = words[0].startswith("-")
        listed = (
            "a command comes first, and `foveal --help` lists them." if is_option else f"there are {', '.join(known)}."
        )
        hint = f"did you mean {near[0]!r}?" if near else listed
        raise UserError(f"There is no {'option' if is_option else 'command'} {words[0]!r}; {hint}")
    name = top.parse_args(words[:1]).command
    quiet(bars=True)
    # Of several processes (torchrun) only the first one talks.
    console = Terminal(highlight=False, markup=False, quiet=os.environ.get("RANK", "0") != "0")
    code: int = find_command(name).run(words[1:], console)
    print(end="", flush=True)  # here, where a closed pipe or a full disk still becomes a sentence
    return code


def _fail(message: str, code: int = 2) -> int:
    # A file's name may hold a line's end, which shall not look like a line of ours.
    text = Text.assemble(("foveal:", "red"), " ", visible(message, lines=True))
    Terminal(stderr=True, highlight=False).print(text, soft_wrap=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
