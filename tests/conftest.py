from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import settings

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test may reach for the network
logging.getLogger("transformers").setLevel(logging.ERROR)

# A busy machine is no failure: examples have no deadline.
settings.register_profile("foveal", deadline=None)
settings.load_profile("foveal")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets; tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("FOVEAL_TEST_DATA") or Path(__file__).parents[2] / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"the real data sets are not at {folder}; name their folder in FOVEAL_TEST_DATA")
    return folder


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a family's tiny random model (see tiny_models.py), built once. Tests must not write to it."""

    @functools.cache
    def folder(family: str) -> Path:
        from tiny_models import build

        return build(family, tmp_path_factory.mktemp(family))

    return folder


@dataclass(frozen=True)
class Said:
    """What a command answered."""

    code: int
    out: str
    err: str

    def sentence(self) -> str:
        """The one line of an error that a user can put right: exit code 2, no traceback, no usage."""
        lines = self.err.strip().splitlines()
        assert self.code == 2 and len(lines) == 1 and lines[0].startswith("foveal: "), (self.code, self.err)
        return lines[0].removeprefix("foveal: ")


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Said]:
    """Runs `foveal WORDS...` in this process."""
    from foveal.cli.main import main

    monkeypatch.setenv("COLUMNS", "200")

    def run(*words: object) -> Said:
        capsys.readouterr()
        try:
            code = main([str(w) for w in words])
        except SystemExit as done:  # how argparse ends --help
            code = int(done.code or 0)
        return Said(code, *capsys.readouterr())

    return run
