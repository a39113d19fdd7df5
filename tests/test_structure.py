"""What CONTRIBUTING.md says of the house, checked: declared packages, floors, circles, names and lengths."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "foveal"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
FILES = sorted(SOURCE.rglob("*.py"))
TREES = {str(p.relative_to(SOURCE)): ast.parse(p.read_text(encoding="utf-8")) for p in FILES}
TASKS = ("blindtest", "classification", "comparison", "counting", "segmentation")
#: Where a task may not be named; of `tasks/` its files, `readers/` and `scenes/`.
ENGINE = ("config", "metrics", "drawing", "vlm", "asking", "report", "evaluation", "training", "tasks", "cli")
#: Packages that are imported by another name than they are installed by.
DISTRIBUTIONS = {"PIL": "pillow", "yaml": "pyyaml"}
#: An example in a message.
EXAMPLE = re.compile(r"e\.g\. `[^`]*`")
#: Longest file and function, in lines.
FILE_LINES, FUNCTION_LINES = 500, 60


def distribution(name: str) -> str:
    """The one spelling of a package's name."""
    return re.sub(r"[-_.]+", "-", re.split(r"[^A-Za-z0-9._-]", name, maxsplit=1)[0]).lower()


def imported(tree: ast.Module) -> set[str]:
    """The packages outside the standard library that a file imports, wherever in it."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module)
    tops = {name.partition(".")[0] for name in names} - {"foveal", "__future__"}
    return {distribution(DISTRIBUTIONS.get(top, top)) for top in tops if top not in sys.stdlib_module_names}


def test_what_is_imported_is_declared_and_what_is_declared_is_imported():
    used = {package: path for path, tree in TREES.items() for package in imported(tree)}
    required = {distribution(d) for d in PROJECT["project"]["dependencies"]}
    extras = PROJECT["project"]["optional-dependencies"]
    optional = {distribution(d) for name, group in extras.items() if name != "dev" for d in group}
    assert {f"{package} ({path})" for package, path in used.items() if package not in required | optional} == set()
    assert required - set(used) == set()


def test_the_tested_set_of_versions_has_what_is_declared():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    tested = {distribution(line) for line in lines if not line.startswith("#")}
    groups = PROJECT["project"]["optional-dependencies"]
    declared = [*PROJECT["project"]["dependencies"], *groups["dev"], *groups["quant"]]
    assert {distribution(d) for d in declared} - tested == set()


def test_every_file_has_a_floor():
    """A new file or room is named in the contract; what the contract does not name, it does not check."""
    floors = next(c for c in PROJECT["tool"]["importlinter"]["contracts"] if c["id"] == "floors")["layers"]
    named = {name.strip(" ()") for floor in floors for name in re.split("[|:]", floor)}
    modules = {"foveal." + re.sub(r"/__init__$", "", path.removesuffix(".py")).replace("/", ".") for path in TREES}
    modules -= {"foveal.__init__", "foveal.tasks"}
    homeless = {m for m in modules if not any(m == name or m.startswith(f"{name}.") for name in named)}
    assert homeless == set()


def test_no_files_import_each_other_in_a_circle():
    grimp = pytest.importorskip("grimp")
    graph: Any = grimp.build_graph("foveal", cache_dir=None)
    circle: list[str] = []
    try:
        TopologicalSorter({m: graph.find_modules_directly_imported_by(m) for m in graph.modules}).prepare()
    except CycleError as error:
        circle = error.args[1]
    assert not circle, " is imported by ".join(circle)


def test_no_import_is_for_type_checkers_alone():
    """Such an import hides a circle."""
    hidden = {
        f"{path}:{node.lineno}"
        for path, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
    }
    assert hidden == set()


def docstrings(tree: ast.Module) -> set[int]:
    """Ids of the nodes that are docstrings, those below a field or a constant among them."""
    return {id(n.value) for n in ast.walk(tree) if isinstance(n, ast.Expr) and isinstance(n.value, ast.Constant)}


def words(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """(line, word) of every name and text in the code."""
    skipped = docstrings(tree)
    for node in ast.walk(tree):
        line = getattr(node, "lineno", 0)
        for name in ("id", "attr", "name", "arg", "asname", "module"):
            if isinstance(word := getattr(node, name, None), str):
                yield line, word
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in skipped:
            yield line, node.value


def is_engine(path: str) -> bool:
    parts = Path(path).parts
    return parts[0] in ENGINE and not (parts[0] == "tasks" and parts[1] in TASKS)


def test_the_engine_names_no_task():
    pattern = re.compile("|".join(TASKS), re.IGNORECASE)
    naming = {
        f"{path}:{line}: {word[:60]!r}"
        for path, tree in TREES.items()
        if is_engine(path)
        for line, word in words(tree)
        if pattern.search(EXAMPLE.sub("", word))
    }
    assert naming == set()


def test_no_file_is_longer_than_500_lines():
    lines = {str(p.relative_to(SOURCE)): len(p.read_text(encoding="utf-8").splitlines()) for p in FILES}
    assert {path: n for path, n in lines.items() if n > FILE_LINES} == {}


def test_no_function_is_longer_than_82_lines():
    lengths = {
        f"{path}:{node.lineno} {node.name}": node.end_lineno - node.lineno + 1
        for path, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None
    }
    assert {name: n for name, n in lengths.items() if n > FUNCTION_LINES} == {}
