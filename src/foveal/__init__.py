"""Foveal teaches vision-language models to see detail."""

import logging

__version__ = "0.1.0"

# accelerate and peft import bitsandbytes wherever it is installed, which then warns that it misses a kernel of its own.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)


def __getattr__(name: str) -> object:
    # The Python interface is imported when it is used: the command line starts faster without it.
    if name in ("load", "Model", "Answer"):
        from foveal import api

        return getattr(api, name)
    raise AttributeError(f"module 'foveal' has no attribute {name!r}")
