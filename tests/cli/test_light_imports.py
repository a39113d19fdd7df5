"""What needs no model does not wait for the libraries of models to be imported."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from PIL import Image

HEAVY = ("torch", "transformers", "peft", "bitsandbytes", "accelerate")
#: Commands with their exit codes; all of them run one after the other in one process.
COMMANDS = (
    ("--help", 0),
    ("tasks", 0),
    ("models", 0),
    ("data inspect blindtest-lines --count 2", 0),
    ("data inspect classification-folder --data.source pictures --count 2", 0),
    ("train nosuch-recipe", 2),
    ("train blindtest-lines --data.trian 3", 2),
    ("train blindtest-lines --training.epochs many", 2),
    ("train --task nosuch", 2),
    ("train blindtest-lines --model.id ./nowhere", 2),
    ("train blindtest-lines --objective lable", 2),
    ("train classification-folder --data.source ./nowhere", 2),
    ("train comparison --data.source ./nowhere", 2),
    ("train counting --data.source ./nowhere", 2),
    ("train segmentation --data.source ./nowhere", 2),
    ("data inspect counting --data.source ./nowhere", 2),
    ("rank comparison nowhere.png", 2),
    ("evaluate runs/nowhere", 2),
    ("predict runs/nowhere a.png", 2),
    ("predict quickstart nowhere.png", 2),
    ("evaluate classification-folder --data.source ./nowhere", 2),
    ("evaluate classification-folder --data.source nowhere", 2),
    ("train counting --data.source some/where/else", 2),
    ("benchmark blindtest", 2),
    ("benchmark blindtest --model builtin --count 0", 2),
    ("data make blindtest/lines", 2),
)
CODE = """
import contextlib, io, json, sys
from foveal.cli.main import main
found = []
for words in json.loads(sys.argv[1]):
    said = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
        try:
            code = main(words.split())
        except SystemExit as done:
            code = int(done.code or 0)
    found.append([words, code, [n for n in json.loads(sys.argv[2]) if n in sys.modules], "Traceback" in said.getvalue()])
print(json.dumps(found))
"""


def test_no_library_of_models_is_imported(tmp_path):
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            for i in range(4):
                folder = tmp_path / "pictures" / split / name
                folder.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (16, 16), (i * 20, 0, 0)).save(folder / f"{i}.png")
    given = [json.dumps([words for words, _ in COMMANDS]), json.dumps(HEAVY)]
    done = subprocess.run(
        [sys.executable, "-c", CODE, *given], cwd=tmp_path, capture_output=True, text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1"}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [[words, code, [], False] for words, code in COMMANDS]


def test_help_imports_next_to_nothing():
    """The Hub's client alone took a third of the time of `foveal --help`."""
    code = (
        "import sys; from foveal.cli.main import main; main([]); print('HEAVY', [n for n in {0!r} if n in sys.modules])"
    )
    names = (*HEAVY, "huggingface_hub", "jsonargparse", "yaml", "numpy", "PIL", "foveal.config", "foveal.tasks")
    words = [sys.executable, "-c", code.format(names)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "HEAVY []"
