"""Keeps the libraries' own chatter off the terminal. Nothing here imports torch or transformers."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from typing import Final

#: Library -> why its log says nothing that a user can act on. No version of them makes this unnecessary yet.
_LOGS: Final = {
    "transformers": "new and unused weights, legacy settings of processors, which `load` checks itself",
    "accelerate": "advice about mixed precision and kernels",
    "bitsandbytes": "at its import, which accelerate and peft bring about, it misses a package of kernels",
}


def quiet(*, bars: bool = False) -> None:
    """Silences libraries, loaded or still to be loaded; errors still show.

    Args:
        bars: Whether their progress bars stay.
    """
    # Each worker process would warn that it was forked after the tokenizers had used threads.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # At its import, transformers sets its log's level to this.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    for name in _LOGS:
        logging.getLogger(name).setLevel(logging.ERROR)
    for category in (UserWarning, FutureWarning):
        warnings.filterwarnings("ignore", category=category, module=r"torch|peft|transformers|accelerate")
    if not bars:
        from huggingface_hub.utils.tqdm import disable_progress_bars  # a third of the time of `foveal --help`

        disable_progress_bars()  # which transformers copies at its import
        if "transformers" in sys.modules:
            sys.modules["transformers"].utils.logging.disable_progress_bar()
