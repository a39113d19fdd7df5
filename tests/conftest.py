from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test may reach for the network
logging.getLogger("transformers").setLevel(logging.ERROR)


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
