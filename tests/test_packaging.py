"""The wheel is whole: installed alone and outside the checkout, it does the main job from an empty folder."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.slow


def run(*words: object, cwd: Path) -> str:
    """A command's output; nothing of the checkout is on its path."""
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME", "RANK", "WORLD_SIZE")}
    done = subprocess.run(list(map(str, words)), cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built with the hatchling of this environment, or else with one that pip fetches."""
    folder = tmp_path_factory.mktemp("wheel")
    here = ["--no-build-isolation"] if importlib.util.find_spec("hatchling") else []
    run(sys.executable, "-m", "pip", "wheel", "--no-deps", *here, "--wheel-dir", folder, ROOT, cwd=folder)
    (built,) = folder.glob("foveal-*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the programs of an environment that has the wheel, and sees the packages of this one."""
    folder = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder)
    programs = folder / ("Scripts" if os.name == "nt" else "bin")
    python = programs / "python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", wheel, cwd=folder)
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip())
    # Folders that a .pth file names are searched, but their own .pth files, an editable install's among them, are not read.
    packages = [p for p in sys.path if Path(p).name in ("site-packages", "dist-packages")]
    (site / "dependencies.pth").write_text("\n".join(packages) + "\n", encoding="utf-8")
    return programs


def test_the_wheel_holds_recipes_models_and_types(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    source = ROOT / "src" / "foveal"
    recipes = {f"foveal/recipes/{p.name}" for p in (source / "recipes").glob("*.yaml")}
    assert len(recipes) > 30 and recipes <= names
    models = {name.split("/")[2] for name in names if name.endswith("/model.safetensors")}
    assert models == {"builtin", "builtin-blindtest", "builtin-counting"}
    others = {
        str(Path("foveal", p.relative_to(source))) for p in source.rglob("*") if p.is_file() and p.suffix != ".pyc"
    }
    assert others <= names and {"foveal/py.typed", "foveal/__init__.pyi", "foveal/__main__.py"} <= others
    assert not any(name.startswith(("tests/", "docs/", "src/")) for name in names)


def test_the_installed_wheel_does_the_main_job_from_an_empty_folder(installed, tmp_path):
    file = Path(run(installed / "python", "-c", "import foveal; print(foveal.__file__)", cwd=tmp_path).strip())
    assert file.is_relative_to(installed.parent) and not file.is_relative_to(ROOT)
    sizes = ("--data.train", 64, "--data.validation", 12, "--data.test", 12, "--training.epochs", 1)
    out = run(installed / "foveal", "quickstart", *sizes, "--name", "small", cwd=tmp_path)
    assert "Report: runs/small/report.html" in out
    folder = tmp_path / "runs" / "small"
    assert (folder / "report.html").is_file() and (folder / "predictions.png").is_file()
    assert [p.name for p in tmp_path.iterdir()] == ["runs"]
    assert "segmentation" in run(installed / "python", "-m", "foveal", "tasks", cwd=tmp_path)
