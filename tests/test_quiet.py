from __future__ import annotations

import subprocess
import sys

CODE = """
import logging, os, warnings
import foveal.quiet as q
q.quiet({bars})
if {first}:
    import transformers
else:
    from transformers.utils import logging as theirs
    import transformers
    q.quiet({bars})
print(transformers.utils.logging.get_verbosity(), transformers.utils.logging.is_progress_bar_enabled())
print(*(logging.getLogger(n).level for n in ("transformers", "accelerate", "bitsandbytes")), os.environ["TOKENIZERS_PARALLELISM"])
"""


def said(first: bool, bars: str) -> str:
    words = [sys.executable, "-c", CODE.format(first=first, bars=bars)]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def test_libraries_are_silenced_before_and_after_their_import():
    for first in (True, False):
        assert said(first, "") == "40 False\n40 40 40 false\n"


def test_their_bars_stay_where_they_shall():
    assert said(True, "bars=True") == "40 True\n40 40 40 false\n"
